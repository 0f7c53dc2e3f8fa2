"""HTTP request and answer at the level of ASGI, for endpoints that avoid Starlette's overhead."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from gatewave.service.codecs.bodies import Body, Part
from gatewave.service.http.middleware.security_headers import HEADERS
from gatewave.service.http.request_body import BodyRule, receive_body
from gatewave.service.security.clients import client_of
from gatewave.service.serving.memory import READER, AnswerReader, Client, Outgoing, Permit

Headers = Sequence[tuple[bytes, bytes]]
Result = TypeVar("Result")

BUFFERED = 1 << 16
"""Bytes of an answer that may lie in the transport's buffer when the answer counts as sent: as many
as asyncio buffers before it pauses the writer."""


def header(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Return the text of the header ``name``, if it was sent."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


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

    async def body(self, rule: BodyRule, seconds: float, permit: Permit) -> Body:
        """Receive the body, and return it in one piece; see `receive_body`."""
        self._permit, self._seconds = permit, seconds
        return await receive_body(self._message, self._announced(), rule, seconds, permit)

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
