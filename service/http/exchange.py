"""One HTTP request at the level of ASGI: what the endpoints that must be fast need, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatewave.service.errors import BodyLate, BodyTooLong, ServiceError
from gatewave.service.http import body_pool
from gatewave.service.http.middleware.security_headers import HEADERS
from gatewave.service.http.paths import ROUTE
from gatewave.service.quoting import NOTHING
from gatewave.service.security.clients import client_of
from gatewave.service.serving.memory import READER, Client, Incoming, Outgoing, Permit, Reader

Body = bytes | memoryview
Part = bytes | bytearray | memoryview
Headers = Sequence[tuple[bytes, bytes]]
Result = TypeVar("Result")

BUFFERED = 1 << 16
"""In bytes, of an answer that may lie in the transport's buffer when it is done with: as much as
asyncio takes there before it asks for a pause."""

GATHERED = 1 << 19
"""Received bytes of a long body after which memory for the whole body is allocated."""

STEP = 2 << 20
"""Granularity in bytes in which memory of long bodies is held: the size of its resident pages."""

ALIGNMENT = 64
"""In bytes, of the tensors in a body: what the widest vector instructions like."""


def at_its_start(_: bytes) -> int:
    """Nothing of a body is worth aligning, but itself."""
    return 0


class Patience:
    """A block that a body has to come in: `asyncio.timeout`, at a third of its cost.

    Raises:
        BodyLate: It did not come in time.
    """

    __slots__ = ("_error", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._error: ServiceError | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._timer = loop.call_later(self._seconds, self._end)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        # Whoever else cancelled the task meanwhile is to have his way.
        if self._error is not None and self._task and self._task.uncancel() <= 0:
            raise self._error from error

    def end(self, error: ServiceError) -> None:
        """End the block with ``error``; called from outside the block."""
        if self._error is None:
            self._error = error
            if self._task:
                self._task.cancel()

    def _end(self) -> None:
        expected = f"all of it within {self._seconds:g} seconds"
        self.end(BodyLate.at("body", expected, NOTHING))


class Exchange:
    """A request that is being answered.

    Attributes:
        headers: By lower-case name; of those given twice, the last.
    """

    __slots__ = ("_permit", "_seconds", "headers", "receive", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._permit: Permit | None = None
        self._seconds = 0.0

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(
        self,
        most: int,
        seconds: float,
        permit: Permit,
        *,
        weight: int = 1,
        data_at: Callable[[bytes], int] = at_its_start,
    ) -> Body:
        """The body, in one piece.

        Args:
            most: How many bytes it may have.
            seconds: How long it may take to come.
            permit: What the memory it takes is held by.
            weight: How many bytes each of its bytes comes to, when it is read.
            data_at: Where the tensors in it begin, which will be aligned; it is told the first
                bytes.

        Raises:
            BodyTooLong: It is longer, or says so.
            BodyLate: It did not come in time.
            Overloaded: There is no memory for it now.
        """
        self._permit, self._seconds = permit, seconds
        length = self._announced()
        if length > most:
            raise BodyTooLong.at("body", f"at most {most} bytes", length)
        permit.check_possible(length * weight)
        with Patience(seconds) as patience:
            message = await self._message()
            body: Body = message.get("body", b"")
            if message.get("more_body", False):
                with Incoming(permit, seconds, patience.end) as incoming:
                    incoming.came(len(body))
                    if length:
                        body = await self._rest_of(body, length, incoming, data_at)
                    else:
                        body = await self._unannounced(body, most, incoming)
            elif len(body) <= most:
                permit.take(len(body))
        if len(body) > most:
            raise BodyTooLong.at("body", f"at most {most} bytes", len(body))
        if weight > 1:
            permit.take(len(body) * (weight - 1))
        return body

    async def reply(
        self, status: int, media_type: bytes, *parts: Part, headers: Headers = ()
    ) -> None:
        """Answer with ``parts``, one after the other.

        A large answer is done with when the client has taken it, but for the last few kilobytes:
        until then it is in memory, and so is held by its request's permit.
        """
        length = sum(map(len, parts))
        if length > BUFFERED:
            parts = (*parts, b"")  # Which can be sent when what is before it was taken.
        given = [(b"content-type", media_type), (b"content-length", b"%d" % length)]
        given += (*headers, *HEADERS)
        await self.send({"type": "http.response.start", "status": status, "headers": given})
        reader: Reader | None = self.scope.get(READER)
        if length <= BUFFERED or self._permit is None or reader is None:
            await self._send(parts)
            return
        with Outgoing(self._permit, length, self._seconds, reader) as outgoing:
            await self._send(parts, outgoing)

    async def _send(self, parts: Sequence[Part], outgoing: Outgoing | None = None) -> None:
        for part in parts[:-1]:
            if outgoing is not None:
                outgoing.sent += len(part)
            await self.send({"type": "http.response.body", "body": part, "more_body": True})
        await self.send({"type": "http.response.body", "body": parts[-1]})

    async def cancel_on_disconnect(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do ``work``; stop when the client goes away, since nobody wants it then.

        Raises:
            ClientDisconnect: It went.
        """
        task = asyncio.create_task(work)
        gone = asyncio.create_task(self._gone())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
            return task.result()
        finally:
            gone.cancel()
            task.cancel()
            # An error's traceback holds this frame, and the task holds the error: a cycle.
            del task, gone, work

    @property
    def client(self) -> Client:
        """Return the client to which the request counts."""
        return client_of(self.scope)

    def _announced(self) -> int:
        length = self.headers.get(b"content-length", b"0")
        return int(length) if length.isdigit() else 0

    async def _message(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _piece(self, incoming: Incoming) -> tuple[bytes, bool]:
        """Return the next piece of the body, and whether more pieces follow."""
        message = await self._message()
        piece: bytes = message.get("body", b"")
        incoming.came(len(piece))
        return piece, message.get("more_body", False)

    async def _rest_of(
        self, first: Body, length: int, incoming: Incoming, data_at: Callable[[bytes], int]
    ) -> Body:
        """Receive a body of known length.

        Memory for a long body is allocated when a good part has come. Only received bytes are
        held, because any client can announce any length.
        """
        start, more = bytearray(first), True
        incoming.hold(len(start))
        while more and len(start) < min(length, GATHERED):
            piece, more = await self._piece(incoming)
            start += piece
            incoming.hold(len(start))
        offset = -data_at(bytes(start)) % ALIGNMENT
        memory = body_pool.memory(length + offset + ALIGNMENT)
        offset += -memory.ctypes.data % ALIGNMENT
        body = memory.data[offset : offset + length]
        position = len(start)
        body[:position] = start
        del start
        while more:
            piece, more = await self._piece(incoming)
            end = position + len(piece)
            incoming.hold(min(length, end + -end % STEP))
            body[position:end] = piece
            position = end
        return body[:position]

    async def _unannounced(self, first: Body, most: int, incoming: Incoming) -> bytes:
        """Receive a body of unknown length, within ``most`` bytes."""
        body, more = bytearray(first), True
        incoming.hold(len(body))
        while more:
            piece, more = await self._piece(incoming)
            if len(body) + len(piece) > most:
                raise BodyTooLong.at("body", f"at most {most} bytes", len(body) + len(piece))
            incoming.hold(len(body) + len(piece))
            body += piece
        return bytes(body)


class Endpoint(Protocol):
    """What answers requests.

    Attributes:
        route: The template of its path, as operators see it.
    """

    route: str

    async def __call__(self, exchange: Exchange) -> None:
        """Answer the request."""

    def fast_path(
        self, path: str, headers: Mapping[bytes, bytes], body: bytes, came: float
    ) -> tuple[bytes, bytes] | None:
        """The media type and the body of the answer to a request that is small, plain and right.

        It had come at ``came``, in seconds of `time.perf_counter`.

        None, or an error, says that it is not; then the request is answered the other way.

        Raises:
            ServiceError: Something is wrong.
            NotPlain: Something is not as it mostly is.
        """


class Handover(Response):
    """What a route of FastAPI answers when an endpoint reads and writes for itself."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.endpoint(Exchange(scope, receive, send))


class Shortcut:
    """Pure ASGI middleware: the requests that must be fast go past the machinery of routes.

    FastAPI has the same routes and leads to the same endpoints: they are its own, in its OpenAPI
    document, and all that is lost here is time.
    """

    def __init__(self, app: ASGIApp, *, endpoints: Callable[[str], Endpoint | None]) -> None:
        self.app = app
        self.endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self.endpoints(scope["path"])
            if endpoint is not None:
                scope[ROUTE] = endpoint.route
                await endpoint(Exchange(scope, receive, send))
                return
        await self.app(scope, receive, send)
