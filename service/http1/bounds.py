"""How much of a request there may be, and what becomes of what is no request.

What is no HTTP, or too much of it, goes to the application too, in its turn and as the last of its
connection, with an error in its scope (`REFUSED`): there alone errors are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Sized
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import HeadTooLong, HttpMalformed, ServiceError, UrlTooLong, Words

Headers = Sequence[tuple[bytes, bytes]]

LONGEST_HEAD = 1 << 16
"""How many bytes the URL and the headers of a request may have; as many may follow its body."""

MOST_HEADERS = 128

LONGEST_LENGTH = 19
"""How many digits the length of a body may have: more would count more than there is."""

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


class Bounded(HttpToolsProtocol):
    """A connection that takes so much and no more."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.url = b""
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
            self._take(data)
        except httptools.HttpParserUpgrade:
            pass  # There is nothing else that we speak; who asked for it is answered in HTTP.
        except Exception as error:  # noqa: BLE001 - nobody would answer what leaves here
            self.refuse(_why(error))

    def _take(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if self._unread > LONGEST_HEAD:
            raise self._too_long()
        self.on_pause()

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        if len(headers) >= MOST_HEADERS:
            raise self._too_long()
        name = name.lower()
        if name == b"content-length" and len(value) > LONGEST_LENGTH:
            raise HttpMalformed.at("Content-Length", f"at most {LONGEST_LENGTH} digits", len(value))
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers.append((name, value))

    def on_pause(self) -> None:
        """All that has come is read."""

    def on_headers_complete(self) -> None:
        if self._unread > LONGEST_HEAD:
            self._see_that_head_is_short()
        self._unread = 0
        self.begin()
        self.headers = []  # What comes now follows the body, and may not pass for a header.

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def begin(self) -> None:
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

    def _is_told(self) -> bool:
        """Whether the request that was read last is answered, or the application's to answer."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and self.scope is cycle.scope

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

    def refuse(self, error: Exception) -> None:
        """Read no more, and have the application say why, unless an answer is on its way."""
        self._is_refused = True
        if self.scope is None:
            self.on_message_begin()  # It is nothing yet, and too much of that.
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
