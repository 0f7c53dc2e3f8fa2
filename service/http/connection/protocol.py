"""Requests that are answered past the application.

For each request uvicorn makes a task, and the application is told of it in pieces. Where a request
is small, lies in memory as a whole, and its answer is a matter of microseconds, that takes longer
than the answer. Here such a request is held until it is whole, and offered to `AtOnce`. What is
declined, or long in coming, goes uvicorn's own way, as if nothing had been.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gatewave.service.http.connection.bounds import Headers
from gatewave.service.http.connection.line import MAX_WAITING_BYTES, Line
from gatewave.service.http.connection.write_timeout import PATIENCE_SECONDS, Patient

Address = tuple[str, int] | None
AtOnce = Callable[[str, Headers, bytes, float, float, Address], tuple[bytes, bytes] | None]
"""Function that answers POST to a path, with headers and a body. It returns its own headers,
written out up to the empty line, and a body; None passes the request on to the application. Its
arguments include the times at which the headers and the whole request had come, in seconds of
`time.perf_counter`, and the client's address."""


LONGEST_HELD = 1 << 18
"""In bytes, of a body of which a part has come, and the rest is waited for."""

SOON_SECONDS = 0.1
"""How long that is: many clients send head and body apart, and what is long comes in pieces."""


class Connection(Patient):
    """One connection.

    Args:
        fast_path: What may answer requests as soon as they are read.
        line: Where these wait, of all connections of the event loop.
        patience: How many seconds a client may take nothing of what waits for it.
    """

    def __init__(
        self,
        *args: Any,
        fast_path: AtOnce | None,
        line: Line,
        patience: float = PATIENCE_SECONDS,
        **options: Any,
    ) -> None:
        super().__init__(*args, patience=patience, **options)
        self._at_once = fast_path
        self._line = line
        self._held: bytes | bytearray | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._is_whole = False
        self._began = self._came = 0.0
        self._answered: object = None
        self._defaults: Headers = ()
        self._start = b""

    def take_turn(self) -> None:
        """Answer the request that waits, if one does, or have the application answer it."""
        try:
            self._settle()
        except Exception as error:  # noqa: BLE001 - as in `data_received`
            self.refuse(error)

    def on_message_begin(self) -> None:
        self._settle()
        super().on_message_begin()

    def begin(self) -> None:
        if self._at_once is not None and self._is_simple():
            self._held = b""
            self._began = time.perf_counter()
        else:
            self._tell()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._unread = 0
            self._hold(body)

    def finish(self) -> None:
        if self._held is None:
            super().finish()
            return
        self._is_whole = True
        self._came = time.perf_counter()
        self._wait_no_more()
        self._unset_keepalive_if_required()
        self._line.bytes += len(self._held)
        if self._line.bytes > MAX_WAITING_BYTES:
            self._settle()
        else:
            self._line.join(self)

    def on_pause(self) -> None:
        if self._held is None or self._is_whole or self._giving_up is not None:
            return
        if self._announced() <= LONGEST_HELD:
            self._unset_keepalive_if_required()
            self._giving_up = self.loop.call_later(SOON_SECONDS, self._give_up)
        else:
            self._let_go()

    def eof_received(self) -> None:
        self._hurry()
        super().eof_received()

    def shutdown(self) -> None:
        self._hurry()
        super().shutdown()

    def idle_since(self) -> float | None:
        return None if self._is_whole else super().idle_since()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def refuse(self, error: Exception) -> None:
        self._hurry()
        self._wait_no_more()
        self._held = None
        super().refuse(error)

    def _hurry(self) -> None:
        """Answer before something else ends the connection."""
        self.take_turn()
        self._line.flush()

    def _announced(self) -> float:
        """The length of the body that is coming, if its head told it."""
        headers: Headers = self.scope["headers"]  # type: ignore[assignment]  # uvicorn's list
        return next((int(value) for name, value in headers if name == b"content-length"), inf)

    def _give_up(self) -> None:
        """Have the application wait for what is held: it may be long in coming."""
        self._giving_up = None
        try:
            self._let_go()
        except Exception as error:  # noqa: BLE001 - as in `data_received`
            self.refuse(error)

    def _wait_no_more(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _settle(self) -> None:
        if not self._is_whole:
            return
        self._is_whole = False
        held = bytes(self._held or b"")
        self._line.bytes -= len(held)
        if self.transport.is_closing():
            self._held = None
        elif not self._answer(held):
            self._let_go()
            super().finish()

    def _hold(self, body: bytes) -> None:
        if not self._held:
            self._held = body
            return
        # A body may come in thousands of chunks of one byte: each is copied once.
        if isinstance(self._held, bytes):
            self._held = bytearray(self._held)
        self._held += body

    def _is_simple(self) -> bool:
        """Whether nothing about the request needs more than an answer."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and self.version == "1.1"
            and parser.should_keep_alive()
            and not self.expect_100_continue
            and self.is_free
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _is_told(self) -> bool:
        return self.scope is self._answered or super()._is_told()

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
        headers: Headers = self.scope["headers"]  # type: ignore[assignment]  # uvicorn's list
        path = self.url.decode("latin-1")
        answer = self._at_once(path, headers, body, self._began, self._came, self.client)
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
        self._tell()
        if held:
            super().on_body(bytes(held))

    def _tell(self) -> None:
        """Have the application answer; what was answered before is on its way by then."""
        self._line.flush()
        super().begin()
