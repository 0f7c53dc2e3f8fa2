"""Open streams of messages, each of which holds a place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gatewave.service.errors import Overloaded
from gatewave.service.grpc.slots import MOMENT, Desk, Place

Context = Any
"""`grpc.aio.ServicerContext`, of bytes: its stubs say less than it can do."""

WAIT_SECONDS = 2 * MOMENT
"""Seconds that a new stream waits for a place: an idle stream loses its place within that time."""


class Stream:
    """One stream, between its messages or while one is answered."""

    def __init__(self, place: Place, streams: Streams) -> None:
        self._place = place
        self._streams = streams

    async def next(self, context: Context) -> Any:
        """Return the next message, or the end, also when the server stops.

        Raises:
            Overloaded: The stream was idle for too long, or lost its place.
        """
        async with self.waiting():
            return await self._read(context)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Mark a block in which the stream waits for its caller.

        Raises:
            Overloaded: The wait was too long, or the stream lost its place.
        """
        try:
            async with self._streams.desk.waiting(self._place):
                yield
        except TimeoutError as error:
            seconds = self._streams.desk.seconds
            detail = (
                "this stream was idle, and another call took its place"
                if self._place.is_wanted
                else f"this stream was idle for {seconds:g} seconds"
            )
            raise Overloaded("streams", detail) from error

    async def _read(self, context: Context) -> Any:
        reading = asyncio.ensure_future(context.read())
        try:
            await asyncio.wait({reading, self._streams.ending}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del reading


class Streams:
    """Bounded number of streams; idle ones make room for new ones.

    Attributes:
        desk: The places of the streams.
        ending: Done when all streams must end, because the server stops.
    """

    def __init__(self, desk: Desk, ending: asyncio.Future[None]) -> None:
        self.desk = desk
        self.ending = ending

    def __len__(self) -> int:
        return len(self.desk)

    @asynccontextmanager
    async def one(self, context: Context) -> AsyncIterator[Stream]:
        """Open a stream for the block.

        Raises:
            Overloaded: All places are taken, and no place became free in time.
        """
        async with self.desk.seat(context.peer(), WAIT_SECONDS) as place:
            yield Stream(place, self)
