"""Threads that compute, each owner within its share."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from math import inf
from typing import Any, Protocol, TypeVar

from gatewave.service.errors import DeadlineExceeded, Overloaded
from gatewave.service.observability import metrics
from gatewave.service.serving.queue import QueueSlot, RequestQueue
from gatewave.service.system import cancellation
from gatewave.service.system.cancellation import CancelToken
from gatewave.service.system.tracebacks import clear_locals

Result = TypeVar("Result")

LATE = "the deadline passed before the request could start"
UNFINISHED = "the deadline passed while the request was computed, and its run was ended"

ABANDON_SECONDS = 2.0
"""Seconds after which a cancelled run no longer counts as a thread of the pool. A model's isolated
process has one second to end its run before it is killed, which is less."""
MAX_ABANDONED = 16
"""Limit on abandoned runs, because they go on using processors and memory."""
NO_OWNER: Any = object()
"""Sentinel for the absence of an owner; None is the owner of all work without a model."""


class Owner(Protocol):
    """Model with a share of the threads.

    Attributes:
        instances: Limit on concurrent runs; 0 means all threads but one.
        trusted: True if its runs always end in time; it may then use all threads.
    """

    instances: int
    trusted: bool


class WorkerPool:
    """Pool of threads for a bounded amount of work; other work waits in a queue or is refused.

    Used from one event loop only. Work whose caller has gone never starts; work that has started
    keeps its thread until it ends. A cancelled run that continues is abandoned after a while:
    another thread replaces its thread.

    The owners of waiting work are served in rotation, one run each, however many requests each has.
    An owner has no more threads than its share: a slow model leaves threads to others.

    Attributes:
        queue: Slots of the requests that wait, including those that wait for a batch.
    """

    def __init__(
        self, size: int, max_queued: int, abandon_seconds: float = ABANDON_SECONDS
    ) -> None:
        self.size = size
        self.queue = RequestQueue(max_queued)
        self.abandon_seconds = abandon_seconds
        self._busy = 0
        self._running: Counter[Owner | None] = Counter()
        # The order of the keys is the rotation: the owner that was served last is at the end.
        self._waiters: OrderedDict[Owner | None, deque[asyncio.Future[None]]] = OrderedDict()
        self._runs: dict[asyncio.Future[Any], Future[Any]] = {}
        self._abandoned: set[asyncio.Future[Any]] = set()
        # An abandoned run keeps its thread of the operating system, so there are spare ones.
        # `_busy` limits the others to `size`; the executor's own queue is always empty.
        self._threads = ThreadPoolExecutor(size + MAX_ABANDONED, thread_name_prefix="worker")

    async def run(
        self,
        work: Callable[[], Result],
        token: CancelToken | None = None,
        owner: Owner | None = None,
    ) -> Result:
        """Run ``work`` in a thread when its turn comes.

        Args:
            work: The work; it does not start after the token's deadline.
            token: Cancelled when the caller no longer waits. A run of an ``owner`` that is not
                trusted is cancelled at the deadline, too.
            owner: The model that is run, if any.

        Raises:
            Overloaded: The queue is full.
            DeadlineExceeded: The turn did not come in time, or the run did not end in time.
        """
        token = token or CancelToken()
        await self._acquire_for(lambda: self.queue.reserve(owner), token.deadline, owner)
        until = token.deadline if owner is not None and not owner.trusted else None
        return await self._result(work, token, owner, until=until)

    async def run_admitted(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` of a request that was admitted before: the queue's limit does not apply."""
        await self._acquire_for(self.queue.admit, None, None)
        return await self._result(work, CancelToken(), None)

    async def acquire(self, owner: Owner | None = None, slot: QueueSlot | None = None) -> None:
        """Wait for a free thread, and take it; the caller holds a slot of the queue.

        Raises:
            Overloaded: The slot was lost to another request meanwhile.
        """
        if self._may_run(owner):
            self._take(owner)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(owner, deque()).append(turn)
        if slot is not None:
            slot.evict = partial(_fail, turn)
        try:
            await turn
        except BaseException:
            # A cancellation can arrive after `_grant` has given the thread to this turn.
            if not turn.cancelled() and turn.exception() is None:
                self.release(owner)
            else:
                self._forget(owner, turn)
            raise
        finally:
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del turn

    def start(
        self,
        work: Callable[[], Result],
        token: CancelToken | None = None,
        owner: Owner | None = None,
    ) -> asyncio.Future[Result]:
        """Run ``work`` in the thread that was acquired; the thread is released when it ends.

        Args:
            work: The work.
            token: The token for `cancellation.check` in the work.
            owner: The model that is run, if any.
        """
        context = copy_context()
        if token is not None:
            context.run(cancellation.install, token)
        try:
            running = self._threads.submit(context.run, _contained, work)
        except BaseException:
            self.release(owner)
            raise
        future = asyncio.wrap_future(running)
        self._runs[future] = running
        future.add_done_callback(partial(self._ended, owner))
        return future

    def release(self, owner: Owner | None = None) -> None:
        """Give back a thread that was acquired and is not used."""
        self._busy -= 1
        self._end_run_of(owner)

    def abandon_later(self, run: asyncio.Future[Any]) -> None:
        """Abandon a cancelled run, if it has not ended after `abandon_seconds`."""
        if not run.done():
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self.abandon_seconds, self._abandon, run)
            run.add_done_callback(lambda _: timer.cancel())

    def close(self, seconds: float = inf) -> bool:
        """End the threads after their present work, without waiting for abandoned runs.

        Returns:
            True if all threads have ended within ``seconds``.
        """
        self._threads.shutdown(wait=False)
        running = dict(self._runs)
        awaited = [each for run, each in running.items() if run not in self._abandoned]
        wait(awaited, None if seconds == inf else seconds)
        return all(each.done() for each in running.values())

    async def _result(
        self,
        work: Callable[[], Result],
        token: CancelToken,
        owner: Owner | None,
        *,
        until: float | None = None,
    ) -> Result:
        future = self.start(work, token, owner)
        try:
            # Cancelling the future would not end the thread; it would only hide that it is busy.
            return await _until(asyncio.shield(future), until)
        except (asyncio.CancelledError, DeadlineExceeded):
            token.cancel()
            # Only runs of models may go on without an end. Reading and writing end soon, and keep
            # their thread until then, so that no more than `size` pieces of work run at a time.
            if owner is not None:
                self.abandon_later(future)
            # The caller has gone, so an error of the work is read here: asyncio logs unread ones.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        finally:
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del future

    async def _acquire_for(
        self, reserve: Callable[[], QueueSlot], deadline: float | None, owner: Owner | None
    ) -> None:
        """Acquire a thread; only a request that has to wait needs a slot of the queue."""
        if self._may_run(owner):
            self._take(owner)
        else:
            await self._wait(reserve, deadline, owner)
        if is_late(deadline):
            self.release(owner)
            raise DeadlineExceeded(LATE)

    async def _wait(
        self, reserve: Callable[[], QueueSlot], deadline: float | None, owner: Owner | None
    ) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        try:
            with reserve() as slot:
                async with asyncio.timeout(left):
                    await self.acquire(owner, slot)
        except TimeoutError as error:
            raise DeadlineExceeded(LATE) from error

    def _may_run(self, owner: Owner | None) -> bool:
        # A request that comes while others wait cannot overtake them here: `_grant` runs at each
        # release, so waiting work of an owner means that all threads, or its share, are in use.
        return self._busy < self.size and self._running[owner] < self._share(owner)

    def _share(self, owner: Owner | None) -> int:
        """Return the number of threads that ``owner`` may have at a time."""
        if owner is None:
            return self.size
        return owner.instances or (self.size if owner.trusted else max(1, self.size - 1))

    def _take(self, owner: Owner | None) -> None:
        self._busy += 1
        self._running[owner] += 1

    def _end_run_of(self, owner: Owner | None) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        self._grant()

    def _grant(self) -> None:
        """Give free threads to waiting work, one owner after the other."""
        while (owner := next(filter(self._may_run, self._waiters), NO_OWNER)) is not NO_OWNER:
            turns = self._waiters[owner]
            turn = turns.popleft()
            self._waiters.move_to_end(owner)
            if not turns:
                del self._waiters[owner]
            # A turn that is done was cancelled or evicted; it takes no thread.
            if not turn.done():
                self._take(owner)
                turn.set_result(None)

    def _forget(self, owner: Owner | None, turn: asyncio.Future[None]) -> None:
        turns = self._waiters.get(owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiters[owner]

    def _ended(self, owner: Owner | None, run: asyncio.Future[Any]) -> None:
        del self._runs[run]
        if run in self._abandoned:
            self._abandoned.discard(run)
            metrics.ABANDONED_LANES.dec()
        else:
            self._busy -= 1
        self._end_run_of(owner)

    def _abandon(self, run: asyncio.Future[Any]) -> None:
        """Replace the thread in which ``run`` does not end by another thread.

        The run still counts for its owner, which therefore cannot abandon more than its share.
        """
        if not run.done() and len(self._abandoned) < MAX_ABANDONED:
            self._abandoned.add(run)
            metrics.ABANDONED_LANES.inc()
            self._busy -= 1
            self._grant()


def _fail(turn: asyncio.Future[None], error: Overloaded) -> None:
    if not turn.done():
        turn.set_exception(error)


async def _until(future: asyncio.Future[Result], deadline: float | None) -> Result:
    """Return the result of ``future``.

    Raises:
        DeadlineExceeded: There was no result before ``deadline``.
    """
    scope = asyncio.timeout(None if deadline is None else deadline - time.monotonic())
    try:
        async with scope:
            return await future
    except TimeoutError as error:
        if not scope.expired():
            raise  # an error of the work itself
        raise DeadlineExceeded(UNFINISHED) from error
    finally:
        del future  # as in `WorkerPool._result`


def _contained(work: Callable[[], Result]) -> Result:
    """Return the result of ``work``; its error keeps only the data for logs."""
    try:
        return work()
    except BaseException as error:
        clear_locals(error)
        raise
    finally:
        # The error's traceback holds this frame, whose locals cannot be cleared while it runs.
        del work


def is_late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
