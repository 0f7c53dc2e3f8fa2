"""The streams that are open, and which of them has to go when another wants to come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.errors import Overloaded

Context = Any
"""`grpc.aio.ServicerContext`, of bytes: its stubs say less than it can do."""


class Stream:
    """One stream, between its messages or while one is answered.

    Attributes:
        idle_since: When the wait for its next message began, in seconds of `time.monotonic`; none
            while one is answered.
        ending: Done when it is to end, since the server stops.
        wanted: Done when it is to end, since another stream gets its place.
    """

    def __init__(self, ending: asyncio.Future[None]) -> None:
        self.idle_since: float | None = None
        self.ending = ending
        self.wanted: asyncio.Future[None] = ending.get_loop().create_future()

    async def next(self, context: Context) -> Any:
        """The next message, or the end, which comes too when the server stops.

        Raises:
            Overloaded: Its place is another's.
        """
        self.idle_since = time.monotonic()
        reading = asyncio.ensure_future(context.read())
        ends = (self.ending, self.wanted)
        try:
            await asyncio.wait({reading, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            if self.wanted.done():
                raise Overloaded("streams", "this stream was idle, and another has its place")
            return None
        finally:
            reading.cancel()
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del reading
            self.idle_since = None


class Streams:
    """So many streams at a time; one that is idle makes room, if it has been so for long.

    Attributes:
        places: How many may be open.
        seconds: How long a stream may be idle though others want its place.
    """

    def __init__(self, places: int, seconds: float) -> None:
        self.places = places
        self.seconds = seconds
        self._open: set[Stream] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def one(self, ending: asyncio.Future[None]) -> Iterator[Stream]:
        """A stream, open for the block.

        Raises:
            Overloaded: So many are open already, and none has been idle for long.
        """
        if len(self._open) >= self.places:
            self._make_room()
        stream = Stream(ending)
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)

    def _make_room(self) -> None:
        latest = time.monotonic() - self.seconds
        idle = [
            (since, stream) for stream in self._open if (since := stream.idle_since) is not None
        ]
        since, stream = min(idle, key=lambda each: each[0], default=(latest + 1, None))
        if stream is None or since > latest:
            raise Overloaded("streams", f"{self.places} streams are open")
        stream.wanted.set_result(None)
        self._open.discard(stream)
