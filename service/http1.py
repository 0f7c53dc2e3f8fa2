"""HTTP/1.1 as uvicorn speaks it, and quicker with what can be answered as soon as it is read.

For each request uvicorn makes a task, and the application is told of it in pieces. Where a request
is small, lies in memory as a whole, and its answer is a matter of microseconds, that takes longer
than the answer. Here such a request is held until it is whole, and offered to `AtOnce`. What is
declined goes uvicorn's own way, as if nothing had been.

Answers leave together: see `Outbox`.

What is no HTTP, or too much of it, goes to the application too, in its turn and as the last of its
connection, with an error in its scope (`REFUSED`): there alone errors are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Sized
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.errors import HeadTooLong, HttpMalformed, ServiceError, UrlTooLong, Words

Headers = Sequence[tuple[bytes, bytes]]

AtOnce = Callable[[str, Headers, bytes], tuple[bytes, bytes] | None]
"""Answers POST to a path, with headers and a body: with its own headers, written out to the empty
line, and a body. None is no answer: the request takes the usual way."""

TOGETHER = 8
"""How many answers leave together: with more, those that are ready wait without a gain."""

LONGEST_HEAD = 1 << 16
"""How many bytes the URL and the headers of a request may have; as many may follow its body."""

MOST_HEADERS = 128

MOST_WAITING = 64
"""How many requests of one connection may wait for their turn; who sends more has to ask again."""

LONGEST_PATH = 1024
"""Of what is refused."""

UNKNOWN = "-"
"""The method and the path of what does not begin with them."""

REFUSED = "gatewave.refused"
"""Where the scope of what is no proper request holds the error that says why."""


class Crowded(Exception):  # noqa: N818 - a state, as the errors of the service are
    """More requests wait on one connection than may."""


class Intake(FlowControl):
    """The flow of a connection from which nothing is read while requests wait for their turn.

    uvicorn would have it go on as soon as one is answered, or looks for the rest of its body.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


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
        self._unread = 0
        self._is_refused = False

    @property
    def expected(self) -> object | None:
        """What stands for the request that is to come: the first, or one of which a part came."""
        scope: object | None = self.scope
        if scope is None:
            return self.transport
        return None if self._is_refused or self._is_told() else scope

    @property
    def is_free(self) -> bool:
        """Whether no request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.flow = Intake(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        # As uvicorn's, but for what it says of errors, and for the timer of an idle connection:
        # that runs until a request is whole, lest something that is none stop it for good.
        if self._is_refused:
            return
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
            if self._unread > LONGEST_HEAD:
                raise self._too_long()
            if self._held is not None:
                self._let_go()
        except httptools.HttpParserUpgrade:
            pass  # There is nothing else that we speak; who asked for it is answered in HTTP.
        except (httptools.HttpParserError, ServiceError) as error:
            self._refuse(_why(error))

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        if len(headers) >= MOST_HEADERS:
            raise self._too_long()
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._unread > LONGEST_HEAD:
            self._see_that_head_is_short()
        self._unread = 0
        if self._at_once is not None and self._is_simple():
            self._held = b""
        else:
            self._tell()
        self.headers = []  # What comes now follows the body, and may not pass for a header.

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if self._held is None:
            super().on_body(body)
        else:
            self._held = self._held + body if self._held else body

    def on_message_complete(self) -> None:
        if self._held is None or not self._answer(self._held):
            self._let_go()
            super().on_message_complete()

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
            and self.is_free
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _is_told(self) -> bool:
        """Whether the request that was read last is answered, or the application's to answer."""
        cycle: RequestResponseCycle | None = self.cycle
        told = None if cycle is None else cycle.scope
        return self.scope is self._answered or self.scope is told

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
        answer = self._at_once(self.url.decode("latin-1"), headers, body)
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
        self._tell()
        if held:
            super().on_body(held)

    def _tell(self) -> None:
        """Tell the application of the request whose headers are complete.

        Raises:
            HttpMalformed: Its URL is none.
            Crowded: Too many wait already.
        """
        if len(self.pipeline) >= MOST_WAITING:
            raise Crowded
        # It may have been set for an answer to what came in the same piece.
        self._unset_keepalive_if_required()
        try:
            super().on_headers_complete()
        except (httptools.HttpParserError, AttributeError) as error:  # None where there is no path
            raise HttpMalformed.at("URL", "one with a path", self.url.decode("latin-1")) from error

    def _see_that_head_is_short(self) -> None:
        # What was read may have been more than the head.
        headers = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.url) + headers > LONGEST_HEAD:
            raise self._too_long()

    def _too_long(self) -> ServiceError:
        if len(self.url) > LONGEST_HEAD // 2:
            return UrlTooLong.at("URL", f"less than {LONGEST_HEAD} bytes", Words("more"))
        expected = f"at most {MOST_HEADERS}, and {LONGEST_HEAD} bytes"
        return HeadTooLong.at("headers", expected, Words("more"))

    def _refuse(self, error: Exception) -> None:
        """Read no more, and have the application say why, unless an answer is on its way."""
        self._is_refused = True
        self._held = None
        cycle: Any = self.cycle
        if isinstance(error, Crowded):
            cycle.keep_alive = False
        elif not self._is_told():
            self._have_said(error)
        elif cycle is None or cycle.response_complete:
            self._close()
        elif not cycle.more_body:
            cycle.keep_alive = False
        elif cycle.response_started:
            self._close()
        else:
            self._retract(cycle)
            self._have_said(error)

    def _close(self) -> None:
        self._outbox.flush()
        self.transport.close()

    def _retract(self, cycle: RequestResponseCycle) -> None:
        """Take back a request of which the application was told."""
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self.cycle = None  # type: ignore[assignment]  # as at first

    def _have_said(self, error: Exception) -> None:
        """Have the application say what is wrong with the request that is being read."""
        path = self.url[:LONGEST_PATH].partition(b"?")[0]
        headers: Headers = self.scope["headers"]  # type: ignore[assignment]  # uvicorn's list
        self.on_message_begin()  # If the application knows the scope, it may have changed it.
        scope: Any = self.scope
        scope[REFUSED] = error
        self.headers += headers
        self.url = b"/"
        super().on_headers_complete()
        super().on_message_complete()
        self.cycle.keep_alive = False
        scope["path"] = path.decode("latin-1") or UNKNOWN
        if not path:
            scope["method"] = UNKNOWN


def _why(error: Exception) -> Exception:
    """What was wrong where the parser stopped."""
    if isinstance(error, httptools.HttpParserCallbackError):
        ours = error.__context__
        return ours if isinstance(ours, Exception) else error
    if isinstance(error, ServiceError):
        return error
    return HttpMalformed.at("request", "HTTP/1.1", Words(error))
