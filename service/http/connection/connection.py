"""One HTTP/1.1 connection."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gatewave.service.errors import HttpMalformed, HttpUnsupported, Overloaded
from gatewave.service.http.connection import head, malformed, states, upgrade, uvicorn_api
from gatewave.service.http.connection.body_buffer import MAX_BUFFERED_BYTES, BodyBuffer
from gatewave.service.http.connection.connection_limits import ConnectionLimits
from gatewave.service.http.connection.flow_control import (
    MAX_PIPELINED,
    PipelineFlowControl,
    PipelineFullError,
)
from gatewave.service.http.connection.head import Headers
from gatewave.service.http.connection.read_queue import MAX_QUEUED_BYTES, FastPath, ReadQueue
from gatewave.service.http.connection.states import TRANSITIONS
from gatewave.service.http.connection.write_timeout import WriteTimeout, untaken
from gatewave.service.http.paths import PUBLIC
from gatewave.service.serving.memory import READER

uvicorn_api.check()


class Connection(HttpToolsProtocol):
    """One HTTP/1.1 connection: uvicorn's protocol, with limits and a fast path.

    uvicorn starts a task for each request, and the application receives the request in pieces. For
    a small request that takes longer than its answer. Such a request is buffered here until it is
    complete, waits in `ReadQueue`, and is offered to ``fast_path``. A request that is declined, or
    slow to arrive, goes to the application as if it had not been buffered.

    `states` has the table of states and events. Every change of ``_state`` looks up that table.

    The class relies on these attributes of uvicorn, most of which are private; `uvicorn_api` checks
    them at import:

    * `HttpToolsProtocol`, methods: connection_made, connection_lost, eof_received, shutdown,
      pause_writing, resume_writing, on_message_begin, on_url, on_headers_complete, on_body,
      on_message_complete, on_response_complete, timeout_keep_alive_handler,
      _unset_keepalive_if_required
    * `HttpToolsProtocol`, state of the connection: loop, transport, flow, client, scheme,
      server_state, parser, pipeline, timeout_keep_alive, timeout_keep_alive_task
    * `HttpToolsProtocol`, state of a request: scope, url, headers, expect_100_continue, cycle
    * `RequestResponseCycle`: disconnected, keep_alive, message_event, more_body,
      response_started, response_complete
    * `FlowControl`: read_paused, write_paused, resume_reading

    Args:
        fast_path: Function that may answer requests without the application.
        queue: Queue of complete requests; all connections of the event loop share it.
        limits: Limits on the number of connections.
        write_timeout: Seconds in which a client must read a part of its answer.
    """

    def __init__(
        self,
        *args: Any,
        fast_path: FastPath | None,
        queue: ReadQueue,
        limits: ConnectionLimits,
        write_timeout: float,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._fast_path = fast_path
        self._queue = queue
        self._limits = limits
        self._write_timeout_seconds = write_timeout
        self._state = states.NEW
        self._head = head.HeadCheck()
        self.url = b""
        self._body = BodyBuffer()
        # Bytes received since the last head ended, or a piece of a body came.
        self._head_bytes = 0
        self._surplus: Overloaded | None = None
        self._opened = self._body_came = self._head_read = self._request_read = 0.0

    # The connection as the server, its limits and the memory pool see it.

    @property
    def awaited(self) -> object | None:
        """Identity of the request that is read now, or of a first one that may come."""
        if self._state is states.NEW:
            return self.transport
        return self.scope if self._state in states.UNASSIGNED else None

    @property
    def is_free(self) -> bool:
        """True if the application answers no request of the connection."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def idle_since(self) -> float | None:
        # A buffered or incomplete request counts as idle: a client could hold it back for ever.
        if self._state is states.QUEUED or not self.is_free or self.transport.is_closing():
            return None
        if self.transport.get_write_buffer_size():
            return None
        timer = self.timeout_keep_alive_task
        return self._opened if timer is None else timer.when() - self.timeout_keep_alive

    def stalled_since(self) -> float | None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or not cycle.more_body or cycle.response_started:
            return None
        # A paused connection waits for the application, not for its client.
        return None if self.transport.is_closing() or self.flow.read_paused else self._body_came

    def untaken(self) -> int:
        """Return the number of bytes of answers that the client has not taken."""
        return 0 if self.transport.is_closing() else untaken(self.transport)

    def cut_off(self) -> None:
        """Abort the connection, and discard the bytes that the client has not taken."""
        self._write_timeout.expire()

    # Callbacks of the transport and of the server.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.flow = PipelineFlowControl(transport, self.pipeline)
        self._write_timeout = WriteTimeout(transport, self._write_timeout_seconds)
        self._opened = self.loop.time()
        self._surplus = self._limits.join(self, self.client[0] if self.client else "")

    def data_received(self, data: bytes) -> None:
        # uvicorn would stop the timer of an idle connection here. It runs until a request is
        # complete, so bytes that are no request cannot keep the connection open.
        if self._state is states.CLOSED:
            return
        self._head_bytes += len(data)
        try:
            upgrade.feed(self, data)
            if self._head_bytes > head.MAX_HEAD_BYTES:
                raise head.too_long(self.url)  # noqa: TRY301 - as the parser's own errors
            if self._state is states.BUFFERING and self._body.timer is None:
                self._await_body()
        except Exception as error:  # noqa: BLE001 - an exception would go to the event loop only
            self.refuse(malformed.error_of(error))

    def eof_received(self) -> None:
        self._settle_now()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._body.stop_waiting()
        self._write_timeout.stop()
        self._limits.leave(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._settle_now()
        super().shutdown()
        self._write_timeout.shorten()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timeout.restart()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_timeout.stop()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._write_timeout.restart()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.cut_off()  # The idle time ended before the client had read its answer.
        else:
            super().timeout_keep_alive_handler()

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        if self._state is states.QUEUED:
            self._settle()  # Answers leave in the order of their requests.
        self._state = TRANSITIONS[self._state][states.BEGIN]
        self._head.has_host = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        if len(headers) >= head.MAX_HEADERS:
            raise head.too_long(self.url)
        name = name.lower()
        if name in head.CHECKED_FIELDS:
            # llhttp keeps spaces after a value, which are not part of it (RFC 9110, section 5.5).
            value = value.rstrip(b" \t")
            if name == b"expect":
                self.expect_100_continue |= value.lower() == b"100-continue"
            else:
                self._head.check_field(name, value)
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        if self._head_bytes > head.MAX_HEAD_BYTES:
            head.check_length(self.url, self.headers)  # The bytes may include a part of the body.
        version = parser.get_http_version()
        if version != "1.1" or not self._head.has_host:
            head.check_version(version, has_host=self._head.has_host)
            # A client of HTTP/1.0 does not await 100 Continue (RFC 9110, section 10.1.1).
            self.expect_100_continue &= version != "1.0"
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise HttpUnsupported.at("method", "one of GET, HEAD, POST", "CONNECT")
            self._state = TRANSITIONS[self._state][states.UPGRADE]
            return
        self._head_bytes = 0
        if self._surplus is not None:
            self._answer_surplus(self._surplus)
        elif self._fast_path is not None and self._is_simple():
            self._state = TRANSITIONS[self._state][states.BUFFER]
            self._head_read = time.perf_counter()
        else:
            self._pass_on()
        self.headers = []  # Trailers follow the body. They must not pass for headers.

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        if self._state is states.BUFFERING:
            self._body.append(body)
        else:
            self._body_came = self.loop.time()
            super().on_body(body)

    def on_message_complete(self) -> None:
        state = self._state
        self._state = TRANSITIONS[state][states.COMPLETE]
        if state is states.BUFFERING:
            self._join_queue()
        elif state is states.STREAMING:
            super().on_message_complete()

    # The fast path.

    def _is_simple(self) -> bool:
        """Return True if the request needs an answer only, which may be written at once."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not self.expect_100_continue
            and self.is_free
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _await_body(self) -> None:
        """Wait a moment for the rest of a short body; pass a long one on."""
        headers: Headers = self.scope["headers"]  # type: ignore[assignment]  # uvicorn's list
        if head.length_of(headers) <= MAX_BUFFERED_BYTES:
            self._unset_keepalive_if_required()
            self._body.wait(self.loop, self._on_body_late)
        else:
            self._pass_on_buffered()

    def _on_body_late(self) -> None:
        self._body.stop_waiting()
        try:
            self._pass_on_buffered()
        except Exception as error:  # noqa: BLE001 - as in `data_received`
            self.refuse(error)

    def _join_queue(self) -> None:
        self._request_read = time.perf_counter()
        if self._body.timer is not None:
            self._body.stop_waiting()
        self._unset_keepalive_if_required()
        self._queue.bytes += len(self._body.data)
        if self._queue.bytes > MAX_QUEUED_BYTES:
            self._settle()
        else:
            self._queue.join(self)

    def take_turn(self) -> None:
        """Answer the queued request, if that was not done before its turn."""
        try:
            self._settle()
        except Exception as error:  # noqa: BLE001 - as in `data_received`
            self.refuse(error)

    def _settle_now(self) -> None:
        """Write the answer to a queued request before something ends the connection."""
        self.take_turn()
        self._queue.flush()

    def _settle(self) -> None:
        """Answer the queued request, if there is one, or pass it on to the application."""
        if self._state is not states.QUEUED:
            return
        self._state = TRANSITIONS[states.QUEUED][states.TAKE]
        body = self._body.take()
        self._queue.bytes -= len(body)
        if not self._answer(body) and self._pass_on_taken(body):
            self.on_message_complete()

    def _answer(self, body: bytes) -> bool:
        """Answer the request that was taken, unless the fast path declines it."""
        start = self._queue.start_of_answers(self.server_state.default_headers)
        if self._fast_path is None or start is None or self.transport.is_closing():
            return False
        headers: Headers = self.scope["headers"]  # type: ignore[assignment]  # uvicorn's list
        path = self.url.decode("latin-1")
        answer = self._fast_path(
            path, headers, body, self._head_read, self._request_read, self.client
        )
        if answer is None:
            return False
        self._state = TRANSITIONS[self._state][states.ANSWER]
        self.server_state.total_requests += 1
        self._queue.write(self.transport, b"".join((start, *answer)))
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        return True

    # The application.

    def _pass_on(self) -> None:
        """Start the application on the request whose head is complete.

        Raises:
            HttpMalformed: The URL is invalid.
            PipelineFullError: Too many requests wait already.
        """
        self._queue.flush()  # Earlier answers come first.
        # Not the connection itself: it refers to the scope, and the cycle would keep both.
        self.scope[READER] = weakref.proxy(self)  # type: ignore[literal-required]  # ours
        if len(self.pipeline) >= MAX_PIPELINED:
            raise PipelineFullError
        self._body_came = self.loop.time()
        # An answer to an earlier request of the same piece may have set it.
        self._unset_keepalive_if_required()
        try:
            super().on_headers_complete()
        except (httptools.HttpParserError, AttributeError) as error:  # The path may be None.
            raise HttpMalformed.at("URL", "one with a path", self.url.decode("latin-1")) from error
        self._state = TRANSITIONS[self._state][states.PASS]

    def _pass_on_buffered(self) -> None:
        """Pass on a request with an incomplete body."""
        self._state = TRANSITIONS[self._state][states.TAKE]
        self._pass_on_taken(self._body.take())

    def _pass_on_taken(self, body: bytes) -> bool:
        """Pass on a request that was taken; drop it if the connection is closing."""
        if self.transport.is_closing():
            self._state = TRANSITIONS[self._state][states.DISCARD]
            return False
        self._pass_on()
        if body:
            self.on_body(body)
        return True

    def _answer_surplus(self, error: Overloaded) -> None:
        """Pass on one health check of a connection beyond the limit; refuse all other requests."""
        if self.url.partition(b"?")[0].decode("latin-1") not in PUBLIC:
            raise error
        self._pass_on()
        self.cycle.keep_alive = False

    # Malformed requests.

    def refuse(self, error: Exception) -> None:
        """Read no more; answer ``error`` through the application, unless an answer has begun."""
        self._settle_now()
        state = self._state
        if state is states.CLOSED:
            return
        self._state = TRANSITIONS[state][states.REFUSE]
        self._body.stop_waiting()
        self._body.take()
        if isinstance(error, PipelineFullError):
            self.cycle.keep_alive = False
        elif state in states.ASSIGNED:
            if malformed.end_last(self, error):
                self.transport.close()
                self._write_timeout.restart()
        else:
            malformed.answer_error(self, error)
