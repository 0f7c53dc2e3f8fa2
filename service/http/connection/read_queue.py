"""Queue of complete requests that the fast path will answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gatewave.service.http.connection.head import Headers

Address = tuple[str, int] | None
FastPath = Callable[[str, Headers, bytes, float, float, Address], tuple[bytes, bytes] | None]
"""Function that answers a POST request to a path, with headers and a body, in microseconds.

It returns its headers, written out up to the empty line, and a body; None passes the request on to
the application. Its arguments include the times at which the head and the whole request were read,
in seconds of `time.perf_counter`, and the client's address."""

MAX_TURN = 8
"""Number of requests that are answered before the event loop reads other connections."""

MAX_QUEUED_BYTES = 1 << 23
"""Limit on the bytes of queued bodies; beyond it, requests are answered as they are read."""


class QueuedConnection(Protocol):
    """Connection with a complete request."""

    def take_turn(self) -> None:
        """Answer the request now."""


class ReadQueue:
    """FIFO of connections with a complete request, for one event loop.

    The queue has two purposes:

    * Fairness. If requests were answered as they are read, a request that arrives in two pieces
      would wait twice for all requests read before it.
    * Fewer wake-ups. The answers of one turn are written together. A write wakes the client. If
      the client runs on the same machine and its (virtual) CPU sleeps, the wake-up takes a quarter
      of the time of a small request; writes that follow each other cause one wake-up.

    Attributes:
        bytes: Number of bytes of all queued bodies.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._connections: deque[QueuedConnection] = deque()
        self._answers: list[tuple[asyncio.Transport, bytes]] = []
        self._default_headers: Headers = ()
        self._start: bytes | None = STATUS_LINE[200]

    def join(self, connection: QueuedConnection) -> None:
        """Append ``connection``."""
        self._connections.append(connection)
        if len(self._connections) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def start_of_answers(self, default_headers: Headers) -> bytes | None:
        """Return the status line of an answer with ``default_headers``, written out.

        None means that the server closes each connection after its answer. uvicorn does that for
        answers of the application only.
        """
        if default_headers is not self._default_headers:  # The server drains, or adds a date.
            self._default_headers = default_headers
            lines = [b"%s: %s\r\n" % header for header in default_headers]
            closes = any(name == b"connection" for name, _ in default_headers)
            self._start = None if closes else b"".join((STATUS_LINE[200], *lines))
        return self._start

    def write(self, transport: asyncio.Transport, answer: bytes) -> None:
        """Write ``answer`` at the end of this turn, or earlier."""
        self._answers.append((transport, answer))
        if len(self._answers) >= MAX_TURN:
            self.flush()

    def flush(self) -> None:
        """Write the answers that wait."""
        answers, self._answers = self._answers, []
        for transport, answer in answers:
            if not transport.is_closing():
                transport.write(answer)

    def _turn(self) -> None:
        try:
            for _ in range(min(MAX_TURN, len(self._connections))):
                self._connections.popleft().take_turn()
            self.flush()
        finally:
            if self._connections:
                asyncio.get_running_loop().call_soon(self._turn)
