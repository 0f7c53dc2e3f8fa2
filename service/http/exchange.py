"""HTTP request and answer at the level of ASGI, for endpoints that avoid Starlette's overhead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from gatewave.service.codecs.bodies import Body, Part
from gatewave.service.errors import BodyLate, BodyTooLong, ServiceError
from gatewave.service.http import body_pool
from gatewave.service.http.middleware.security_headers import HEADERS
from gatewave.service.quoting import NOTHING
from gatewave.service.security.clients import client_of
from gatewave.service.serving.memory import READER, AnswerReader, Client, Incoming, Outgoing, Permit

Headers = Sequence[tuple[bytes, bytes]]
Result = TypeVar("Result")

BUFFERED = 1 << 16
"""Bytes of an answer that may lie in the transport's buffer when the answer counts as sent: as many
as asyncio buffers before it pauses the writer."""

GATHERED = 1 << 19
"""Received bytes of a long body after which memory for the whole body is allocated."""

STEP = 2 << 20
"""Granularity in bytes in which memory of long bodies is held: the size of its resident pages."""

ALIGNMENT = 64
"""Alignment in bytes of the tensors in a body: the width of AVX-512 registers."""


def at_its_start(_: bytes) -> int:
    """Return the position of the tensors in a body that has no head."""
    return 0


def header(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Return the text of the header ``name``, if it was sent."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


class Patience:
    """Time limit for the reception of a body: `asyncio.timeout`, at a third of its cost.

    Raises:
        BodyLate: The body did not arrive in time.
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
        # A cancellation from elsewhere in the meantime goes on.
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
    """Request that is being answered.

    Attributes:
        headers: The headers by lower-case name; of repeated headers, the last.
    """

    __slots__ = ("_permit", "_seconds", "headers", "receive", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._permit: Permit | None = None
        self._seconds = 0.0

    async def body(
        self,
        most: int,
        seconds: float,
        permit: Permit,
        *,
        weight: int = 1,
        data_at: Callable[[bytes], int] = at_its_start,
    ) -> Body:
        """Receive the body, and return it in one piece.

        Args:
            most: The greatest length in bytes.
            seconds: The time limit of its arrival.
            permit: The permit that holds its memory.
            weight: Bytes of memory for each byte of the body, decoding included.
            data_at: Function from the first bytes to the position of the tensors, which are
                aligned.

        Raises:
            BodyTooLong: The body is longer, or the headers announce a longer one.
            BodyLate: The body did not arrive in time.
            Overloaded: There is not enough memory now.
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
                    incoming.received(len(body))
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

        A large answer returns when the client has read all but the last few kilobytes. The permit
        of the request holds its memory until then.
        """
        length = sum(map(len, parts))
        if length > BUFFERED:
            parts = (*parts, b"")  # The empty part is sent when the client has read the others.
        given = [(b"content-type", media_type), (b"content-length", b"%d" % length)]
        given += (*headers, *HEADERS)
        await self.send({"type": "http.response.start", "status": status, "headers": given})
        reader: AnswerReader | None = self.scope.get(READER)
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
        """Return the result of ``work``; cancel it when the client disconnects.

        Raises:
            ClientDisconnect: The client disconnected.
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
        incoming.received(len(piece))
        return piece, message.get("more_body", False)

    async def _rest_of(
        self, first: Body, length: int, incoming: Incoming, data_at: Callable[[bytes], int]
    ) -> Body:
        """Receive a body of known length.

        Memory for a long body is allocated when a good part has arrived. Only received bytes are
        held, because a client can announce any length.
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
