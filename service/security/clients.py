"""Identity of clients, for their shares and limits."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from gatewave.service.errors import ClientLimited

MAX_CLIENTS = 1 << 16
"""Clients whose rate is known; beyond that, those without a request for longest are forgotten."""

CLIENT = "gatewave.client"
"""Key of the scope that holds the caller's API key, where one was checked."""


def client_of(scope: Mapping[str, Any]) -> str | bytes:
    """Return the caller of a request: its API key if one was checked, otherwise its address."""
    key: bytes | None = scope.get(CLIENT)
    if key is not None:
        return key
    return client_at(scope.get("client"))


def client_at(address: tuple[str, int] | None) -> str:
    """Return the client at the other end of a connection, which has no address on UNIX sockets."""
    return network_of(address[0]) if address else ""


def client_of_call(peer: str, key: bytes | None) -> str | bytes:
    """Return the caller of a gRPC call: its API key if one was checked, otherwise its address.

    Args:
        peer: The other side as gRPC names it: ``ipv4:10.0.0.7:50412``, ``ipv6:%5B::1%5D:50412``.
        key: The API key.
    """
    if key is not None:
        return key
    host = unquote(peer).partition(":")[2].rpartition(":")[0]
    return network_of(host.strip("[]"))


@lru_cache(4096)
def network_of(host: str) -> str:
    """Return the client at ``host``: an IPv4 address, or the /64 of an IPv6 address.

    A single IPv6 client commonly has a whole /64 of addresses.
    """
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))


class RateLimiter:
    """Limit on the requests per second of each client: a token bucket for one second.

    One number is kept for each client, as in the generic cell rate algorithm (ITU-T I.371): the
    time at which its bucket will be full again.

    Args:
        rate: Requests per second.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._interval = 1 / rate
        self._burst = max(1.0, self._interval)
        self._full_at: OrderedDict[str | bytes, float] = OrderedDict()

    def has_room(self, client: str | bytes) -> bool:
        """Return True if `admit` would admit a request of ``client`` now."""
        return self._wait(client, time.monotonic()) <= 0

    def admit(self, client: str | bytes) -> None:
        """Count a request of ``client``.

        Raises:
            ClientLimited: The client exceeds its rate.
        """
        now = time.monotonic()
        wait = self._wait(client, now)
        if wait > 0:
            detail = f"one client may send {self.rate:g} requests a second"
            raise ClientLimited("client_requests", detail, math.ceil(wait))
        full_at = max(self._full_at.pop(client, now), now)
        self._full_at[client] = full_at + self._interval
        if len(self._full_at) > MAX_CLIENTS:
            self._full_at.popitem(last=False)

    def _wait(self, client: str | bytes, now: float) -> float:
        """Return the seconds until a request would be admitted."""
        return (self._full_at.get(client, now) - now) + (self._interval - self._burst)
