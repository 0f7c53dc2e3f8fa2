"""HTTP/1.1 as uvicorn speaks it, and quicker with what can be answered as soon as it is read.

For each request uvicorn makes a task, and the application is told of it in pieces. Where a request
is small, lies in memory as a whole, and its answer is a matter of microseconds, that takes longer
than the answer. Here such a request is held until it is whole, and offered to `AtOnce`. What is
declined goes uvicorn's own way, as if nothing had been.

Answers leave together: see `Outbox`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

Headers = Sequence[tuple[bytes, bytes]]

AtOnce = Callable[[str, Headers, bytes], tuple[bytes, bytes] | None]
"""Answers POST to a path, with headers and a body: with its own headers, written out to the empty
line, and a body. None is no answer: the request takes the usual way."""

TOGETHER = 8
"""How many answers leave together: with more, those that are ready wait without a gain."""


class Outbox:
    """Answers of one event loop that were made in one of its turns.

    Writing wakes who waits for it. Where that is a process on the same machine, and its CPU, mostly
    a virtual one, has gone to sleep meanwhile, it takes a quarter of the time that a small request
    takes in all. Writes that follow on each other wake but once.
    """

    def __init__(self) -> None:
        self._answers: list[tuple[asyncio.Transport, bytes]] = []

    def put(self, transport: asyncio.Transport, answer: bytes) -> None:
        """Write ``answer`` when the event loop's turn ends, or before."""
        self._answers.append((transport, answer))
        if len(self._answers) == 1:
            asyncio.get_running_loop().call_soon(self.flush)
        elif len(self._answers) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write now what there is."""
        answers, self._answers = self._answers, []
        for transport, answer in answers:
            if not transport.is_closing():
                transport.write(answer)


class Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        at_once: What may answer requests as soon as they are read.
        outbox: Where these answers go, of all connections of the event loop.
    """

    def __init__(self, *args: Any, at_once: AtOnce | None, outbox: Outbox, **options: Any) -> None:
        super().__init__(*args, **options)
        self._at_once = at_once
        self._outbox = outbox
        self._held: bytes | None = None
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

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._held is not None:
            self._let_go()

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
        if self._held is None or not self._answer(self._held):
            self._let_go()
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._outbox.flush()
        super().send_400_response(msg)

    def shutdown(self) -> None:
        self._outbox.flush()
        super().shutdown()

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
        self._outbox.put(self.transport, b"".join((self._start, *answer)))
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
        super().on_headers_complete()
        if held:
            super().on_body(held)
