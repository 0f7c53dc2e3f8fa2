"""Places that callers hold for a time, and that nobody can keep from the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import Overloaded

MOMENT = 1.0
"""How long a place is held at least, in seconds: a small message comes with its call."""


class Desk:
    """So many places; whoever has held one longest leaves it to the next who wants one.

    Attributes:
        places: How many there are.
        longest_line: How many may wait for one.
        seconds: How long a place may be held though nobody else wants it.
    """

    def __init__(self, places: int, longest_line: int, seconds: float) -> None:
        self.places = places
        self.longest_line = longest_line
        self.seconds = seconds
        self.waiting = 0
        self._free = asyncio.Semaphore(places)
        self._held: dict[asyncio.Timeout, float] = {}

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place, for a block that is cancelled when its time is over.

        Raises:
            Overloaded: The line is full.
            TimeoutError: The time is over.
        """
        await self._turn()
        try:
            async with asyncio.timeout(self.seconds) as time:
                self._held[time] = asyncio.get_running_loop().time()
                try:
                    yield
                finally:
                    self._held.pop(time, None)
        finally:
            self._free.release()

    async def _turn(self) -> None:
        if self._free.locked():
            if self.waiting >= self.longest_line:
                raise Overloaded("calls", f"{self.places} calls like this one are open")
            self._hurry()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1

    def _hurry(self) -> None:
        """Bound the time of the oldest, if it was not yet: one for each who waits."""
        oldest = next((time for time in self._held if not time.expired()), None)
        if oldest is not None:
            began = self._held.pop(oldest)
            oldest.reschedule(max(began + MOMENT, asyncio.get_running_loop().time()))
