"""Steps in which the HTTP server ends without losing a request.

1. `announce`: the service is not ready, which load balancers see. It still answers, and each answer
   is the last one of its connection: clients then connect to another process.
2. `accept_queued`: the kernel's queue of new connections is emptied, after it was sealed.
3. `await_requests`: requests that are being sent are read.
4. uvicorn closes idle connections and finishes requests under way. `abort_unclosed` ends the
   connections that clients leave open.

Each step ends at the deadline of the drain at the latest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import cast

import uvicorn
from uvicorn.server import ServerState

from gatewave.service.http.connection.connection import Connection
from gatewave.service.http.connection.connection_limits import descriptor_of
from gatewave.service.system.sockets import readable

HANDSHAKE_SECONDS = 0.2
"""Seconds in which TCP handshakes must end that began before the queue was sealed."""

LINGER_SECONDS = 2.0
"""Seconds in which a new connection must send its first request, or the rest of it."""

ACCEPT_SECONDS = 0.01
"""Seconds after which accepted connections are known to uvicorn."""

POLL_SECONDS = 0.005
"""Seconds between two looks for incomplete requests. The kernel offers no event for them."""

CLOSE_SECONDS = 0.5
"""Seconds in which a client must close a connection that was closed here."""

CLOSE = (b"connection", b"close")

log = logging.getLogger(__name__)


def connections_of(server_state: ServerState) -> list[Connection]:
    """Return the open connections."""
    return cast(list[Connection], list(server_state.connections))


def announce(config: uvicorn.Config, server_state: ServerState) -> None:
    """Make each answer the last one of its connection."""
    log.info("draining")
    # uvicorn copies the first list to the second once in a second, to add the date.
    config.encoded_headers = [*config.encoded_headers, CLOSE]
    server_state.default_headers = [*server_state.default_headers, CLOSE]
    for connection in connections_of(server_state):
        # These requests had the default headers of the time at which they came.
        if not connection.is_free and not connection.cycle.response_started:
            connection.cycle.keep_alive = False


async def accept_queued(descriptors: list[int], deadline: float) -> None:
    """Wait until the event loop has accepted all connections of the listening ``descriptors``."""
    await asyncio.sleep(min(HANDSHAKE_SECONDS, max(0, deadline - time.monotonic())))
    while readable(descriptors) and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel's queue
        await asyncio.sleep(0)


async def await_requests(server_state: ServerState, deadline: float) -> None:
    """Wait until no connection is in the middle of a request, or expects its first."""
    until = min(deadline, time.monotonic() + LINGER_SECONDS)
    await asyncio.sleep(ACCEPT_SECONDS)
    while time.monotonic() < until and _is_any_request_awaited(server_state):  # noqa: ASYNC110 - the kernel's buffers too
        await asyncio.sleep(POLL_SECONDS)


def _is_any_request_awaited(server_state: ServerState) -> bool:
    connections = connections_of(server_state)
    if any(connection.awaited is not None for connection in connections):
        return True
    transports = [connection.transport for connection in connections]
    return bool(readable([descriptor_of(t) for t in transports if not t.is_closing()]))


async def abort_unclosed(server_state: ServerState) -> None:
    """Abort connections that are closed here and not by their clients, until cancelled.

    TLS requires the client to close too, but clients do not read idle connections: uvloop and
    asyncio wait 30 seconds for each.
    """
    closing: set[Connection] = set()
    while True:
        await asyncio.sleep(CLOSE_SECONDS)
        transports = {c: c.transport for c in connections_of(server_state)}
        transports = {c: t for c, t in transports.items() if t.is_closing()}
        for connection in closing & transports.keys():
            if not transports[connection].get_write_buffer_size():
                transports[connection].abort()
        closing = set(transports)
