"""HTTP/1.1 as uvicorn speaks it, and quicker with what can be answered as soon as it is read.

For each request uvicorn makes a task, and the application is told of it in pieces. Where a request
is small, lies in memory as a whole, and its answer is a matter of microseconds, that takes longer
than the answer. Here such a request is held until it is whole, and offered to `AtOnce`. What is
declined goes uvicorn's own way, as if nothing had been.

They wait for each other, and their answers leave together: see `Line`. Whoever does not take them
is cut off: see `Protocol`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

Headers = Sequence[tuple[bytes, bytes]]

AtOnce = Callable[[str, Headers, bytes], tuple[bytes, bytes] | None]
"""Answers POST to a path, with headers and a body: with its own headers, written out to the empty
line, and a body. None is no answer: the request takes the usual way."""

PATIENCE_SECONDS = 30.0
"""How long a client may take nothing of an answer that waits for it."""

LAST_PATIENCE_SECONDS = 2.0
"""The same when the server ends, and waits for nothing else."""

TOGETHER = 8
"""How many requests are answered in one turn of the event loop: in between, others are read."""

MOST_WAITING_BYTES = 1 << 23
"""So much of requests that were read may wait; with more, the next is answered as it is read."""


log = logging.getLogger(__name__)


class Line:
    """Requests that were read, and wait to be answered: those of one event loop, first come first.

    If each were answered as it is read, one that came in two pieces would find all others before
    it twice. Their answers leave together: writing wakes who waits for it, and where that is a
    process on the same machine, and its CPU, mostly a virtual one, has gone to sleep meanwhile,
    that takes a quarter of the time that a small request takes in all. Writes that follow on each
    other wake but once.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._waiting: deque[Protocol] = deque()
        self._answers: list[tuple[asyncio.Transport, bytes]] = []

    def join(self, protocol: Protocol) -> None:
        """Have the request that ``protocol`` holds answered when its turn comes."""
        self._waiting.append(protocol)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def put(self, transport: asyncio.Transport, answer: bytes) -> None:
        """Write ``answer`` soon."""
        self._answers.append((transport, answer))

    def flush(self) -> None:
        """Write now what there is."""
        answers, self._answers = self._answers, []
        for transport, answer in answers:
            if not transport.is_closing():
                transport.write(answer)

    def _turn(self) -> None:
        try:
            for _ in range(min(TOGETHER, len(self._waiting))):
                self._waiting.popleft().settle()
            self.flush()
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._turn)


class Protocol(HttpToolsProtocol):
    """One connection.

    What waits for a client is memory, and closing a connection waits too, until all was taken. So a
    client that takes nothing for a time, though there is something, is cut off.

    Args:
        at_once: What may answer requests as soon as they are read.
        line: Where these wait, of all connections of the event loop.
        patience: How many seconds a client may take nothing of what waits for it.
    """

    def __init__(
        self,
        *args: Any,
        at_once: AtOnce | None,
        line: Line,
        patience: float = PATIENCE_SECONDS,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._patience = patience
        self._watch: asyncio.TimerHandle | None = None
        self._at_once = at_once
        self._line = line
        self._held: bytes | None = None
        self._is_whole = False
        self._answered: object = None
        self._defaults: Headers = ()
        self._start = b""

    @property
    def expected(self) -> object | None:
        """What stands for the request that is to come: the first, or one of which a part came."""
        scope: object | None = self.scope
        if scope is None:
            return self.transport
        cycle: RequestResponseCycle | None = self.cycle
        told = None if cycle is None else cycle.scope
        return None if scope is self._answered or scope is told else scope

    def settle(self) -> None:
        """Answer the request that waits, if one does, or have the application answer it."""
        if not self._is_whole:
            return
        self._is_whole = False
        held = self._held or b""
        self._line.bytes -= len(held)
        if self.transport.is_closing():
            self._held = None
        elif not self._answer(held):
            self._let_go()
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._held is not None and not self._is_whole:
            self._let_go()

    def on_message_begin(self) -> None:
        self.settle()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._at_once is not None and self._is_simple():
            self._held = b""
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held = self._held + body if self._held else body

    def on_message_complete(self) -> None:
        if self._held is None:
            super().on_message_complete()
            return
        self._is_whole = True
        self._line.bytes += len(self._held)
        if self._line.bytes > MOST_WAITING_BYTES:
            self.settle()
        else:
            self._line.join(self)

    def send_400_response(self, msg: str) -> None:
        self._hurry()
        super().send_400_response(msg)

    def eof_received(self) -> None:
        self._hurry()
        super().eof_received()

    def shutdown(self) -> None:
        self._hurry()
        super().shutdown()
        self._patience = min(self._patience, LAST_PATIENCE_SECONDS)
        self._look_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look_no_more()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._look_later()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self._cut_off()
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        self._look_no_more()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        """See, when patience ends, whether anything was taken of what waits now, if anything does.

        Nothing is added to it meanwhile: writing is paused, or over.
        """
        self._look_no_more()
        if self.transport.get_write_buffer_size():
            untaken = _untaken(self.transport)
            self._watch = self.loop.call_later(self._patience, self._look, untaken)

    def _look_no_more(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self, before: int) -> None:
        if _untaken(self.transport) < before:
            self._look_later()
        else:
            self._cut_off()

    def _cut_off(self) -> None:
        """Close the connection, and forget what waits."""
        log.info("a client that did not take its answer was cut off")
        self.transport.abort()

    def _hurry(self) -> None:
        """Answer before something else ends the connection."""
        self.settle()
        self._line.flush()

    def _is_simple(self) -> bool:
        """Whether nothing about the request needs more than an answer."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and self._is_free()
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _is_free(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _answer(self, body: bytes) -> bool:
        """Answer the request that is held, unless it is declined."""
        defaults = self.server_state.default_headers
        if defaults is not self._defaults:
            self._defaults = defaults
            lines = (b"%s: %s\r\n" % header for header in defaults)
            self._start = STATUS_LINE[200] + b"".join(lines)
            if any(name == b"connection" for name, _ in defaults):
                self._at_once = None  # The server ends; connections are closed the usual way.
        if self._at_once is None:
            return False
        answer = self._at_once(self.url.decode("latin-1"), self.headers, body)
        if answer is None:
            return False
        self._held = None
        self._answered = self.scope
        self.server_state.total_requests += 1
        self._line.put(self.transport, b"".join((self._start, *answer)))
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        return True

    def _let_go(self) -> None:
        """Have the application answer what is held, if anything is."""
        held, self._held = self._held, None
        if held is None or self.transport.is_closing():
            return
        try:
            super().on_headers_complete()
        except HttpParserError:  # of the URL, which nobody has read yet
            self.send_400_response("Invalid HTTP request received.")
            return
        if held:
            super().on_body(held)


def _untaken(transport: asyncio.Transport) -> int:
    """How many bytes the other side's system has not taken yet.

    Not only those that wait here: the kernel holds megabytes, and takes more only when a third of
    them has gone, which can take a slow client minutes.
    """
    descriptor: int = transport.get_extra_info("socket").fileno()
    (queued,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    return transport.get_write_buffer_size() + int(queued)
