"""Threads that compute, and the line before them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self, TypeVar

from service import cancellation, metrics
from service.cancellation import CancelToken
from service.engine import Halt
from service.errors import DeadlineExceeded, Overloaded, clear_locals

Result = TypeVar("Result")


class Lanes:
    """So many pieces of work at a time, each in a thread; others wait in a line, or are refused.

    Used from one event loop only. A piece whose caller is gone never starts; one that has started
    keeps its lane until it ends, caller or no caller.

    Attributes:
        waiting: The requests that wait, those for company included.
    """

    def __init__(self, count: int, longest_line: int) -> None:
        self.longest_line = longest_line
        self.waiting = 0
        self._free = asyncio.Semaphore(count)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="lane")

    async def run(
        self, work: Callable[[], Result], deadline: float | None = None, halt: Halt | None = None
    ) -> Result:
        """Do ``work`` in a thread when its turn comes.

        Args:
            work: What to do; it is not begun after ``deadline``.
            deadline: In seconds of `time.monotonic`.
            halt: What stops ``work`` early once nobody waits for it any more.

        Raises:
            Overloaded: The line is full.
            DeadlineExceeded: The turn did not come in time.
        """
        await self._turn_of_one(self.place, deadline)
        return await self._end_of(work, CancelToken(deadline), halt)

    async def go_on(self, work: Callable[[], Result]) -> Result:
        """As `run`, for who was admitted before, and is not refused any more for the line."""
        await self._turn_of_one(lambda: Place(self), None)
        return await self._end_of(work, CancelToken(), None)

    def place(self) -> Place:
        """A place in the line, for one request.

        Raises:
            Overloaded: The line is full.
        """
        if self.waiting >= self.longest_line:
            raise Overloaded("queue", f"{self.longest_line} requests are waiting")
        return Place(self)

    async def turn(self) -> None:
        """Wait for a free lane, and take it; whoever is to have it has a place in the line."""
        await self._free.acquire()

    def start(
        self, work: Callable[[], Result], token: CancelToken | None = None
    ) -> asyncio.Future[Result]:
        """Do ``work`` in the lane that was taken; when it ends, the lane is free again.

        Args:
            work: What to do.
            token: What `cancellation.check` looks at within it.
        """
        loop = asyncio.get_running_loop()
        context = copy_context()
        if token is not None:
            context.run(cancellation.install, token)
        try:
            future = loop.run_in_executor(self._threads, context.run, _contained, work)
        except BaseException:
            self.leave()
            raise
        future.add_done_callback(lambda _: self.leave())
        return future

    def leave(self) -> None:
        """Give back a lane that was taken."""
        self._free.release()

    def close(self) -> None:
        """End the threads; what they are doing is finished first."""
        self._threads.shutdown(wait=True)

    async def _end_of(
        self, work: Callable[[], Result], token: CancelToken, halt: Halt | None
    ) -> Result:
        future = self.start(work, token)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            token.cancel()
            if halt is not None:
                halt.now()
            # Whoever waited is gone; what comes of the work, an error too, is nobody's.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        finally:
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del future

    async def _turn_of_one(self, place: Callable[[], Place], deadline: float | None) -> None:
        if self._free.locked():
            await self._wait(place, deadline)
        else:
            await self.turn()
        if is_late(deadline):
            self.leave()
            raise DeadlineExceeded(LATE)

    async def _wait(self, place: Callable[[], Place], deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        try:
            with place():
                async with asyncio.timeout(left):
                    await self.turn()
        except TimeoutError as error:
            raise DeadlineExceeded(LATE) from error


def _contained(work: Callable[[], Result]) -> Result:
    """The result of ``work``; of its error, only what a log needs leaves the thread."""
    try:
        return work()
    except BaseException as error:
        clear_locals(error)
        raise
    finally:
        del work


class Place:
    """A request's place in the line; it is given back when its block ends, or before."""

    __slots__ = ("_lanes",)

    def __init__(self, lanes: Lanes) -> None:
        self._lanes: Lanes | None = lanes
        lanes.waiting += 1
        metrics.QUEUE_DEPTH.inc()

    def leave(self) -> None:
        """Wait no more, whatever for; more than once does no harm."""
        if self._lanes is not None:
            self._lanes.waiting -= 1
            metrics.QUEUE_DEPTH.dec()
            self._lanes = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


LATE = "the deadline passed before the request could start"


def is_late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
