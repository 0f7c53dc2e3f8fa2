"""One HTTP request at the level of ASGI: what the endpoints that must be fast need, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import bodies, security
from service.errors import NOTHING, BodyLate, BodyTooLong
from service.serving.budget import Permit
from service.telemetry import ROUTE

Body = bytes | memoryview
Part = bytes | bytearray | memoryview
Headers = Sequence[tuple[bytes, bytes]]
Result = TypeVar("Result")

BUFFERED = 1 << 16
"""In bytes, of an answer that may lie in the transport's buffer when it is done with: as much as
asyncio takes there before it asks for a pause."""

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

    __slots__ = ("_is_over", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_over = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._timer = loop.call_later(self._seconds, self._end)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        # Whoever else cancelled the task meanwhile is to have his way.
        if self._is_over and self._task and self._task.uncancel() <= 0:
            expected = f"all of it within {self._seconds:g} seconds"
            raise BodyLate.at("body", expected, NOTHING) from error

    def _end(self) -> None:
        self._is_over = True
        if self._task:
            self._task.cancel()


class Exchange:
    """A request that is being answered.

    Attributes:
        headers: By lower-case name; of those given twice, the last.
    """

    __slots__ = ("headers", "receive", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])

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
        length = self._announced()
        if length > most:
            raise BodyTooLong.at("body", f"at most {most} bytes", length)
        permit.take(length * weight)
        with Patience(seconds):
            message = await self._message()
            first: bytes = message.get("body", b"")
            if message.get("more_body", False):
                if length:
                    return await self._rest_of(first, length, data_at)
                return await self._unannounced(first, most, permit, weight)
        if len(first) > most:
            raise BodyTooLong.at("body", f"at most {most} bytes", len(first))
        return first

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
        given += (*headers, *security.HEADERS)
        await self.send({"type": "http.response.start", "status": status, "headers": given})
        for part in parts[:-1]:
            await self.send({"type": "http.response.body", "body": part, "more_body": True})
        await self.send({"type": "http.response.body", "body": parts[-1]})

    async def unless_gone(self, work: Coroutine[Any, Any, Result]) -> Result:
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

    async def _rest_of(self, first: bytes, length: int, data_at: Callable[[bytes], int]) -> Body:
        """The body whose length is known: each piece is copied once, as it comes."""
        offset = -data_at(first) % ALIGNMENT
        memory = bodies.memory(length + offset + ALIGNMENT)
        offset += -memory.ctypes.data % ALIGNMENT
        body = memory.data[offset : offset + length]
        position = len(first)
        body[:position] = first
        more = True
        while more:
            message = await self._message()
            piece = message.get("body", b"")
            body[position : position + len(piece)] = piece
            position += len(piece)
            more = message.get("more_body", False)
        return body[:position]

    async def _unannounced(self, first: bytes, most: int, permit: Permit, weight: int) -> bytes:
        """The body whose length nobody said: bounded as it comes."""
        body = bytearray(first)
        more = True
        while more:
            message = await self._message()
            piece = message.get("body", b"")
            if len(body) + len(piece) > most:
                raise BodyTooLong.at("body", f"at most {most} bytes", len(body) + len(piece))
            permit.take(len(piece) * weight)
            body += piece
            more = message.get("more_body", False)
        return bytes(body)


class Endpoint(Protocol):
    """What answers requests.

    Attributes:
        route: The template of its path, as operators see it.
    """

    route: str

    async def __call__(self, exchange: Exchange) -> None:
        """Answer the request."""

    def at_once(
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
