"""How much of a request there may be, and what becomes of what is no request.

What is no HTTP, or too much of it, goes to the application too, in its turn and as the last of its
connection, with an error in its scope (`REFUSED`): there alone errors are told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence, Sized
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gatewave.service.errors import (
    HeadTooLong,
    HttpMalformed,
    HttpUnsupported,
    HttpVersionUnsupported,
    Overloaded,
    ServiceError,
    UrlTooLong,
)
from gatewave.service.http.connection.limits import ConnectionLimits
from gatewave.service.http.paths import PUBLIC
from gatewave.service.quoting import NOTHING, Words

Headers = Sequence[tuple[bytes, bytes]]

LONGEST_HEAD = 1 << 16
"""How many bytes the URL and the headers of a request may have; as many may follow its body."""

MAX_HEADERS = 128

LONGEST_LENGTH = 19
"""How many digits the length of a body may have: more would count more than there is."""

MAX_WAITING = 64
"""How many requests of one connection may wait for their turn; who sends more has to ask again."""

LONGEST_PATH = 1024
"""Of what is refused."""

CHECKED = frozenset({b"content-length", b"transfer-encoding", b"host", b"expect"})
"""Header fields that are checked as they come."""

HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
"""Value of a Host field: RFC 9110, section 7.2, with the host of RFC 3986, section 3.2.2."""

VERSIONS = frozenset({"1.0", "1.1"})

WRONG_VERSIONS = frozenset({"Invalid HTTP version", "Pause on PRI/Upgrade"})
"""Messages of llhttp for an unknown version, and for the preface of HTTP/2 (9.4)."""

WRONG_ENCODINGS = frozenset({"Invalid `Transfer-Encoding` header value"})
"""Message of llhttp for a second coding after `chunked` (9.4); `on_header` does not get that
field."""

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
    """HTTP connection with bounds on heads, bodies and pipelined requests.

    Args:
        limits: Limits on the number of connections.
    """

    def __init__(self, *args: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._surplus: Overloaded | None = None
        self._made = self._heard = 0.0
        self.url = b""
        self.version = ""
        self._unread = 0
        self._is_refused = False
        self._has_host = False
        self._is_upgrade = False
        self._known_host: bytes | None = None

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
        self._made = self.loop.time()
        self._surplus = self._limits.join(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.leave(self)
        super().connection_lost(exc)

    def descriptor(self) -> int:
        number: int = self.transport.get_extra_info("socket").fileno()
        return number

    def idle_since(self) -> float | None:
        if not self.is_free or self.transport.is_closing():
            return None
        if self.transport.get_write_buffer_size():
            return None
        timer = self.timeout_keep_alive_task
        return self._made if timer is None else timer.when() - self.timeout_keep_alive

    def stalled_since(self) -> float | None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or not cycle.more_body or cycle.response_started:
            return None
        return None if self.transport.is_closing() or self.flow.read_paused else self._heard

    def shed(self) -> None:
        if self.scheme == "https":
            self.transport.abort()  # Closing waits for the other side.
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        # As uvicorn's, but for what it says of errors, and for the timer of an idle connection:
        # that runs until a request is whole, lest something that is none stop it for good.
        if self._is_refused:
            return
        self._unread += len(data)
        try:
            self._take(data)
        except Exception as error:  # noqa: BLE001 - nobody would answer what leaves here
            self.refuse(_why(error))

    def _take(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # The offset counts from the start of what was fed.
                rest = memoryview(data)[len(data) - len(rest) + upgrade.args[0] :]
                self._read_again_without_upgrade()
        if self._unread > LONGEST_HEAD:
            raise self._too_long()
        self.on_pause()

    def _read_again_without_upgrade(self) -> None:
        """Parse the last head again in a new parser, without its Upgrade field.

        llhttp stops at a head that asks for an upgrade: the body would be lost, or be read as the
        next request. A server may ignore Upgrade (RFC 9110, section 7.8); then the body belongs to
        the request. httptools cannot tell llhttp to ignore it (it returns 1 from
        `on_headers_complete`), so the rest of the connection needs a parser that did not get the
        field.
        """
        start = self.parser.get_method(), self.url, self.version.encode()
        lines = [b"%s %s HTTP/%s\r\n" % start]
        # All parts were parsed already: they contain no CR, LF or NUL.
        lines += [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As in uvicorn.
        self.parser.feed_data(b"".join([*lines, b"\r\n"]))

    def on_message_begin(self) -> None:
        self._has_host = self._is_upgrade = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        if len(headers) >= MAX_HEADERS:
            raise self._too_long()
        name = name.lower()
        if name in CHECKED:
            # llhttp keeps spaces after a value, which are not part of it (RFC 9110, section 5.5).
            value = value.rstrip(b" \t")
            self._check_field(name, value)
        headers.append((name, value))

    def _check_field(self, name: bytes, value: bytes) -> None:
        match name:
            case b"host":
                if self._has_host:
                    raise HttpMalformed.at("Host", "one field", Words("two"))
                if value != self._known_host and HOST.fullmatch(value) is None:
                    raise HttpMalformed.at("Host", "a host and its port", _shown(value))
                self._known_host = value
                self._has_host = True
            case b"content-length" if len(value) > LONGEST_LENGTH:
                expected = f"at most {LONGEST_LENGTH} digits"
                raise HttpMalformed.at("Content-Length", expected, len(value))
            case b"transfer-encoding" if value.lower() != b"chunked":
                raise HttpUnsupported.at("Transfer-Encoding", "chunked", _shown(value))
            case b"expect" if value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_pause(self) -> None:
        """All that has come is read."""

    def on_headers_complete(self) -> None:
        if self._unread > LONGEST_HEAD:
            self._see_that_head_is_short()
        self.version = self.parser.get_http_version()
        if self.version != "1.1" or not self._has_host:
            self._check_version(self.version)
        if self.parser.should_upgrade():
            self._is_upgrade = True
            if self.parser.get_method() == b"CONNECT":
                raise HttpUnsupported.at("method", "one of GET, HEAD, POST", "CONNECT")
            return
        self._unread = 0
        if self._surplus is not None:
            self._begin_surplus(self._surplus)
        else:
            self.begin()
        self.headers = []  # What comes now follows the body, and may not pass for a header.

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        self._heard = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        # llhttp also calls this at the end of a head that asks for an upgrade.
        if not self._is_upgrade:
            self.finish()

    def finish(self) -> None:
        """Tell the application that its request is complete."""
        super().on_message_complete()

    def begin(self) -> None:
        """Tell the application of the request whose headers are complete.

        Raises:
            HttpMalformed: Its URL is none.
            Crowded: Too many wait already.
        """
        if len(self.pipeline) >= MAX_WAITING:
            raise Crowded
        self._heard = self.loop.time()
        # It may have been set for an answer to what came in the same piece.
        self._unset_keepalive_if_required()
        try:
            super().on_headers_complete()
        except (httptools.HttpParserError, AttributeError) as error:  # None where there is no path
            raise HttpMalformed.at("URL", "one with a path", self.url.decode("latin-1")) from error

    def _check_version(self, version: str) -> None:
        if version in VERSIONS:
            # RFC 9112, section 3.2: a request of HTTP/1.1 without Host is answered with 400.
            if version == "1.1" and not self._has_host:
                raise HttpMalformed.at("Host", "one field", NOTHING)
            if version == "1.0":
                # RFC 9110, section 10.1.1: the expectation of such a client is ignored.
                self.expect_100_continue = False
        elif version < "1":  # A line without a version is HTTP/0.9, to llhttp.
            raise HttpMalformed.at("request line", "a method, a URL and HTTP/1.1", Words("less"))
        else:
            raise HttpVersionUnsupported.at("version", "HTTP/1.1", f"HTTP/{version}")

    def _begin_surplus(self, error: Overloaded) -> None:
        """Begin a request on a connection beyond the limit: one health check, or an error."""
        if self.url.partition(b"?")[0].decode("latin-1") not in PUBLIC:
            raise error
        Bounded.begin(self)
        self.cycle.keep_alive = False

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
        expected = f"at most {MAX_HEADERS}, and {LONGEST_HEAD} bytes"
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
    if str(error) in WRONG_VERSIONS:
        return HttpVersionUnsupported.at("version", "HTTP/1.1", Words("another"))
    if str(error) in WRONG_ENCODINGS:
        return HttpUnsupported.at("Transfer-Encoding", "chunked", Words("another"))
    return HttpMalformed.at("request", "HTTP/1.1", Words(error))


def _shown(value: bytes) -> str:
    return value.decode("latin-1")
