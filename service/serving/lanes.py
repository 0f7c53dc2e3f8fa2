"""Threads that compute, and the line before them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from service import metrics
from service.engine import Halt
from service.errors import DeadlineExceeded, Overloaded

Result = TypeVar("Result")


class Lanes:
    """So many pieces of work at a time, each in a thread; others wait in a line, or are refused.

    Used from one event loop only. A piece whose caller is gone never starts; one that has started
    keeps its lane until it ends, caller or no caller.
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
        self.admit()
        return await self.go_on(work, deadline, halt)

    async def go_on(
        self, work: Callable[[], Result], deadline: float | None = None, halt: Halt | None = None
    ) -> Result:
        """As `run`, for who was admitted before, and is not refused any more for the line."""
        await self.turn(deadline)
        future = self.start(work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if halt is not None:
                halt.now()
            # Whoever waited is gone; what comes of the work, an error too, is nobody's.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    def admit(self, waiting: int = 0) -> None:
        """Refuse more work when the line, and ``waiting`` beside it, are as long as may be.

        Raises:
            Overloaded: They are.
        """
        if self.waiting + waiting >= self.longest_line:
            raise Overloaded("queue", f"{self.longest_line} requests are waiting")

    async def turn(self, deadline: float | None = None) -> None:
        """Wait for a free lane, and take it.

        Raises:
            DeadlineExceeded: It did not become free in time.
        """
        if self._free.locked():
            await self._wait(deadline)
        else:
            await self._free.acquire()
        if is_late(deadline):
            self.leave()
            raise DeadlineExceeded(LATE)

    def start(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Do ``work`` in the lane that was taken; when it ends, the lane is free again."""
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._threads, copy_context().run, work)
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

    async def _wait(self, deadline: float | None) -> None:
        self.waiting += 1
        metrics.QUEUE_DEPTH.inc()
        left = None if deadline is None else deadline - time.monotonic()
        try:
            async with asyncio.timeout(left):
                await self._free.acquire()
        except TimeoutError as error:
            raise DeadlineExceeded(LATE) from error
        finally:
            self.waiting -= 1
            metrics.QUEUE_DEPTH.dec()


LATE = "the deadline passed before the request could start"


def is_late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
