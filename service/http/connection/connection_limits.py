"""Limits on open connections: of all clients, of each client, and of file descriptors.

At a limit, the connections that have been idle longest are closed. If no connection is idle, one
with a stopped body is closed. If that fails too, a new connection is answered with an error, except
for health checks.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Iterable
from itertools import islice
from operator import itemgetter
from typing import Literal, Protocol

from gatewave.service.errors import ClientLimited, Overloaded
from gatewave.service.security.clients import network_of

MAX_RESERVED_DESCRIPTORS = 64
"""Descriptors that are kept free for files, processes and rejected connections; at most a quarter
of all descriptors."""

CLOSE_DIVISOR = 16
"""Divisor of the number of idle connections that are closed at a time: a search for one connection
takes as long as a search for many."""

MAX_OLDEST = 4096
"""Number of the oldest connections that are searched first; a search of all may take long."""

SEARCH_SECONDS = 1.0
"""Seconds without another search, after a search of all connections without a result."""

STALLED_SECONDS = 5.0
"""Seconds without a byte of a body after which its connection is closed if there is no idle one."""

MAX_SURPLUS = 8
"""Connections beyond a client's limit that are answered with an error; further ones are reset."""

LOG_SECONDS = 10.0
"""Seconds between two log lines about the same limit."""

DESCRIPTORS, CONNECTIONS, OF_CLIENT = "file descriptors", "connections", "connections of one client"

log = logging.getLogger(__name__)


class Limited(Protocol):
    """Connection to which the limits apply."""

    transport: asyncio.Transport
    scheme: Literal["http", "https"] | None

    def idle_since(self) -> float | None:
        """Return the event loop's time at which it became idle; None if it is busy."""

    def stalled_since(self) -> float | None:
        """Return the time of the last byte of an incomplete body; None if no body is awaited."""


class ConnectionLimits:
    """Open connections of one process, and their limits; for one event loop.

    Args:
        most: Limit for all clients; 0 means as many as there are file descriptors.
        most_of_client: Limit for one client; 0 means any number.
        descriptors: Number of file descriptors of the process; None means its present soft limit.
    """

    def __init__(
        self, most: int = 0, most_of_client: int = 0, descriptors: int | None = None
    ) -> None:
        self.most = most
        self.most_of_client = most_of_client
        if descriptors is None:
            descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._last_descriptor = descriptors - min(MAX_RESERVED_DESCRIPTORS, descriptors // 4)
        self._open: dict[Limited, str] = {}
        self._of_client: dict[str, dict[Limited, None]] = {}
        self._shed: dict[str, int] = {}
        self._logged: dict[str, float] = {}
        self._next_search: dict[str, float] = {}

    def join(self, connection: Limited, host: str) -> Overloaded | None:
        """Count ``connection`` from ``host``; return the error to answer it with.

        None means that the connection is served; idle connections are closed for it if needed.
        """
        client = network_of(host)
        self._open[connection] = client
        own = self._of_client.setdefault(client, {})
        own[connection] = None
        over = len(own) - self.most_of_client
        if self.most_of_client and over > 0 and not self._make_room(connection, own, OF_CLIENT):
            if over > MAX_SURPLUS:
                _close(connection)
            detail = f"one client may have {self.most_of_client} connections"
            return ClientLimited("client_connections", detail)
        # POSIX assigns the lowest free number, so all numbers below it are in use.
        if 0 <= self._last_descriptor < descriptor_of(connection.transport):
            lack = DESCRIPTORS
        elif 0 < self.most < len(self._open):
            lack = CONNECTIONS
        else:
            return None
        if self._make_room(connection, self._open, lack):
            return None
        return Overloaded("connections", f"there are no {lack} left")

    def leave(self, connection: Limited) -> None:
        """Stop counting ``connection``."""
        client = self._open.pop(connection, None)
        if client is not None:
            own = self._of_client[client]
            del own[connection]
            if not own:
                del self._of_client[client]

    def _make_room(self, new: Limited, among: Iterable[Limited], lack: str) -> bool:
        """Close the connections that have been idle longest, except ``new``."""
        now = asyncio.get_running_loop().time()
        if now < self._next_search.get(lack, now):
            return False
        victims = _idle(islice(among, MAX_OLDEST), new) or _idle(among, new) or _stalled(among, now)
        if not victims and lack != OF_CLIENT:
            self._next_search[lack] = now + SEARCH_SECONDS
        for connection in victims:
            _close(connection)
        self._tell(lack, len(victims))
        return bool(victims)

    def _tell(self, lack: str, count: int) -> None:
        self._shed[lack] = self._shed.get(lack, 0) + count
        now = time.monotonic()
        if now - self._logged.get(lack, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged[lack] = now
            extra = {"open": len(self._open), "closed": self._shed.pop(lack)}
            log.warning("no %s left; idle connections are closed", lack, extra=extra)


def _idle(among: Iterable[Limited], new: Limited) -> list[Limited]:
    """Return the connections that have been idle longest, except ``new``."""
    ages = [(c.idle_since(), c) for c in among if c is not new]
    # Connections of one turn of the event loop have the same time: then the first that came.
    idle = sorted(((s, c) for s, c in ages if s is not None), key=itemgetter(0))
    return [connection for _, connection in idle[: 1 + len(idle) // CLOSE_DIVISOR]]


def _stalled(among: Iterable[Limited], now: float) -> list[Limited]:
    """Return the connection that has waited longest for a body, if that is too long."""
    waits = [(c.stalled_since(), c) for c in among]
    stalled = [(s, c) for s, c in waits if s is not None and s < now - STALLED_SECONDS]
    return [min(stalled, key=itemgetter(0))[1]] if stalled else []


def _close(connection: Limited) -> None:
    if connection.scheme == "https":
        connection.transport.abort()  # A TLS connection closes only once the client closes it too.
    else:
        connection.transport.close()


def descriptor_of(transport: asyncio.BaseTransport) -> int:
    """Return the number of the file descriptor of ``transport``."""
    number: int = transport.get_extra_info("socket").fileno()
    return number


def raise_descriptor_limit() -> None:
    """Raise the soft limit on file descriptors to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
