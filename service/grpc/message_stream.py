"""Stream of messages of one call, which holds a slot and can lose it while it is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gatewave.service.errors import Overloaded
from gatewave.service.grpc.slots import Slot, SlotPool

Context = Any
"""A `grpc.aio.ServicerContext` of bytes; its stubs lack some of the methods that are used here."""


class MessageStream:
    """Messages of one open stream.

    Attributes:
        slot: The slot of the stream.
        pool: The pool of the slot.
        stopping: Done when the server stops, which ends the stream.
    """

    def __init__(self, slot: Slot, pool: SlotPool, stopping: asyncio.Future[None]) -> None:
        self.slot = slot
        self.pool = pool
        self.stopping = stopping

    async def next(self, context: Context) -> Any:
        """Return the next message, or an object that is not bytes at the end of the stream.

        The stream also ends when the server stops.

        Raises:
            Overloaded: The stream was idle for too long, or was evicted.
        """
        async with self.idle():
            return await self._read(context)

    @asynccontextmanager
    async def idle(self) -> AsyncIterator[None]:
        """Mark a block in which the stream waits for its caller.

        Raises:
            Overloaded: The stream was idle for too long, or was evicted.
        """
        try:
            async with self.pool.idle(self.slot):
                yield
        except TimeoutError as error:
            detail = (
                "the stream was idle, and another call got its slot"
                if self.slot.is_evicted
                else f"the stream was idle for {self.pool.idle_timeout:g} seconds"
            )
            raise Overloaded("streams", detail) from error

    async def _read(self, context: Context) -> Any:
        reading = asyncio.ensure_future(context.read())
        try:
            await asyncio.wait({reading, self.stopping}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            # The traceback of an error holds this frame, and the future holds the error. Without
            # this line both are a reference cycle, which only the cyclic collector frees.
            del reading
