"""Limits on open connections: of all clients, of each client, and of file descriptors.

Where a limit is reached, the connections that have been idle longest are closed. Where none is
idle, one whose body has stopped coming is. Where there is none of these either, a new connection is
answered with an error, but for questions about the health of the process.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Iterable
from itertools import islice
from operator import itemgetter
from typing import Protocol

from service.errors import ClientLimited, Overloaded
from service.serving.clients import network_of

MAX_RESERVED_DESCRIPTORS = 64
"""Descriptors that connections leave free, for files, processes, and connections that are refused;
a quarter where that is less."""

BATCH = 16
"""One in so many idle connections is closed at a time: to look for them takes as long for one."""

OLDEST = 4096
"""So many connections, the oldest, are searched first for idle ones: looking at all may be long."""

SEARCH_SECONDS = 1.0
"""Pause after a search of all connections that found none to close."""

STALLED_SECONDS = 5.0
"""Pause in a body after which its connection makes room where none is idle."""

MAX_SURPLUS = 8
"""Connections beyond the limit of their client that are answered with an error; more are reset."""

LOG_SECONDS = 10.0
"""Pause between two log lines about the same limit."""

DESCRIPTORS, CONNECTIONS, OF_CLIENT = "file descriptors", "connections", "connections of one client"

log = logging.getLogger(__name__)


class Limited(Protocol):
    """A connection, as the limits see it."""

    def descriptor(self) -> int:
        """Return the number of its file descriptor."""

    def idle_since(self) -> float | None:
        """Return when it became idle, by the clock of the event loop; None if it is not."""

    def stalled_since(self) -> float | None:
        """Return when the last byte came of a body that is not whole; None if none is awaited."""

    def shed(self) -> None:
        """Close it now."""


class ConnectionLimits:
    """The open connections of one process, and how many there may be; for one event loop.

    Args:
        most: How many of all clients; 0 means as many as there are file descriptors.
        most_of_client: How many of one client; 0 means any number.
        descriptors: The limit of the process on file descriptors; None means its soft limit now.
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
        """Count ``connection``, from ``host``; return the error that it is to be answered with.

        None means that it is served, if need be in the place of idle ones, which are closed.
        """
        client = network_of(host)
        self._open[connection] = client
        own = self._of_client.setdefault(client, {})
        own[connection] = None
        over = len(own) - self.most_of_client
        if self.most_of_client and over > 0 and not self._make_room(connection, own, OF_CLIENT):
            if over > MAX_SURPLUS:
                connection.shed()
            detail = f"one client may have {self.most_of_client} connections"
            return ClientLimited("client_connections", detail)
        # POSIX gives out the lowest free number, so that all below it are in use.
        if 0 <= self._last_descriptor < connection.descriptor():
            lack = DESCRIPTORS
        elif 0 < self.most < len(self._open):
            lack = CONNECTIONS
        else:
            return None
        if self._make_room(connection, self._open, lack):
            return None
        return Overloaded("connections", f"there are no {lack} left")

    def leave(self, connection: Limited) -> None:
        """Count ``connection`` no more."""
        client = self._open.pop(connection, None)
        if client is not None:
            own = self._of_client[client]
            del own[connection]
            if not own:
                del self._of_client[client]

    def _make_room(self, new: Limited, among: Iterable[Limited], lack: str) -> bool:
        """Close those that have been idle longest, if any others are idle than ``new``."""
        now = asyncio.get_running_loop().time()
        if now < self._next_search.get(lack, now):
            return False
        victims = _idle(islice(among, OLDEST), new) or _idle(among, new) or _stalled(among, now)
        if not victims and lack != OF_CLIENT:
            self._next_search[lack] = now + SEARCH_SECONDS
        for connection in victims:
            connection.shed()
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
    """Return those that have been idle longest, but never ``new``."""
    ages = [(c.idle_since(), c) for c in among if c is not new]
    # Of those of one turn of the event loop, which have the same time, the first that came.
    idle = sorted(((s, c) for s, c in ages if s is not None), key=itemgetter(0))
    return [connection for _, connection in idle[: 1 + len(idle) // BATCH]]


def _stalled(among: Iterable[Limited], now: float) -> list[Limited]:
    """Return the connection that has waited longest for a body, if any has for too long."""
    waits = [(c.stalled_since(), c) for c in among]
    stalled = [(s, c) for s, c in waits if s is not None and s < now - STALLED_SECONDS]
    return [min(stalled, key=itemgetter(0))[1]] if stalled else []


def raise_descriptor_limit() -> None:
    """Let the process have as many file descriptors as it may: the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
