"""Identity of callers, for the shares and limits of each."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

CLIENT = "gatewave.client"
"""Key of the scope that holds the caller's API key, where one was checked."""


def client_of(scope: Mapping[str, Any]) -> str | bytes:
    """Return the caller of a request: its API key if one was checked, or else its address."""
    key: bytes | None = scope.get(CLIENT)
    if key is not None:
        return key
    address: tuple[str, int] | None = scope.get("client")
    return network_of(address[0]) if address else ""


@lru_cache(4096)
def network_of(host: str) -> str:
    """Return what stands for the client at ``host``: an IPv4 address, or the /64 of an IPv6 one.

    A single IPv6 client commonly has all of a /64 to choose its addresses from.
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
