"""Reception of a request's body, within its limits of length, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from starlette.types import Message

from gatewave.service.codecs.bodies import Body
from gatewave.service.errors import BodyLate, BodyTooLong, ServiceError
from gatewave.service.http import body_pool
from gatewave.service.quoting import NOTHING
from gatewave.service.serving.memory import Incoming, Permit

NextMessage = Callable[[], Awaitable[Message]]
"""Function that returns the next message of the request, and raises if the client has gone."""

GATHERED = 1 << 19
"""Received bytes of a long body after which memory for the whole body is allocated."""

STEP = 2 << 20
"""Granularity in bytes in which memory of long bodies is held: the size of its resident pages."""

ALIGNMENT = 64
"""Alignment in bytes of the tensors in a body: the width of AVX-512 registers."""


def at_its_start(_: bytes) -> int:
    """Return the position of the tensors in a body that has no head."""
    return 0


@dataclass(frozen=True, slots=True)
class BodyRule:
    """Limits on one body, and its layout.

    Attributes:
        max_bytes: The greatest length.
        weight: Bytes of memory for each byte of the body, decoding included.
        data_at: Function from the first bytes to the position of the tensors, which are aligned.
    """

    max_bytes: int
    weight: int = 1
    data_at: Callable[[bytes], int] = at_its_start


class BodyTimeout:
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

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
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


async def receive_body(
    message: NextMessage, length: int, rule: BodyRule, seconds: float, permit: Permit
) -> Body:
    """Return the complete body, in one piece.

    Args:
        message: Returns the next message.
        length: The announced length in bytes; 0 if there is none.
        rule: The limits on the body.
        seconds: The time limit of its arrival.
        permit: The permit that holds its memory.

    Raises:
        BodyTooLong: The body is longer, or the headers announce a longer one.
        BodyLate: The body did not arrive in time.
        Overloaded: There is not enough memory now.
    """
    most = rule.max_bytes
    if length > most:
        raise BodyTooLong.at("body", f"at most {most} bytes", length)
    permit.check_possible(length * rule.weight)
    with BodyTimeout(seconds) as timeout:
        first = await message()
        body: Body = first.get("body", b"")
        if first.get("more_body", False):
            with Incoming(permit, seconds, timeout.end) as incoming:
                incoming.received(len(body))
                if length:
                    body = await _rest_of(message, body, length, incoming, rule.data_at)
                else:
                    body = await _unannounced(message, body, most, incoming)
        elif len(body) <= most:
            permit.take(len(body))
    if len(body) > most:
        raise BodyTooLong.at("body", f"at most {most} bytes", len(body))
    if rule.weight > 1:
        permit.take(len(body) * (rule.weight - 1))
    return body


async def _piece(message: NextMessage, incoming: Incoming) -> tuple[bytes, bool]:
    """Return the next piece of the body, and whether more pieces follow."""
    received = await message()
    piece: bytes = received.get("body", b"")
    incoming.received(len(piece))
    return piece, received.get("more_body", False)


async def _rest_of(
    message: NextMessage,
    first: Body,
    length: int,
    incoming: Incoming,
    data_at: Callable[[bytes], int],
) -> Body:
    """Receive a body of known length.

    Memory for a long body is allocated when a good part has arrived. Only received bytes are
    held, because a client can announce any length.
    """
    start, more = bytearray(first), True
    incoming.hold(len(start))
    while more and len(start) < min(length, GATHERED):
        piece, more = await _piece(message, incoming)
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
        piece, more = await _piece(message, incoming)
        end = position + len(piece)
        incoming.hold(min(length, end + -end % STEP))
        body[position:end] = piece
        position = end
    return body[:position]


async def _unannounced(message: NextMessage, first: Body, most: int, incoming: Incoming) -> bytes:
    """Receive a body of unknown length, within ``most`` bytes."""
    body, more = bytearray(first), True
    incoming.hold(len(body))
    while more:
        piece, more = await _piece(message, incoming)
        if len(body) + len(piece) > most:
            raise BodyTooLong.at("body", f"at most {most} bytes", len(body) + len(piece))
        incoming.hold(len(body) + len(piece))
        body += piece
    return bytes(body)
