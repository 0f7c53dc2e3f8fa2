"""Threads that compute, and the line before them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from gatewave.service.errors import DeadlineExceeded, Overloaded
from gatewave.service.observability import metrics
from gatewave.service.onnx.engine import Halt
from gatewave.service.system import cancellation
from gatewave.service.system.cancellation import CancelToken
from gatewave.service.system.tracebacks import clear_locals

Result = TypeVar("Result")

LATE = "the deadline passed before the request could start"
UNFINISHED = "the deadline passed while the request was computed, and its run was ended"

OVERTIME_SECONDS = 2.0
"""Seconds after which a halted run is replaced by another lane: longer than it takes to end an
isolated process."""
MAX_ABANDONED = 16
"""Limit on abandoned runs. They use processors and memory."""
NO_OWNER: Any = object()
"""Sentinel for no owner at all; None is an owner like others."""


class Owner(Protocol):
    """Model with a share of the lanes.

    Attributes:
        instances: The most concurrent runs; 0 means all lanes but one.
        trusted: Whether its runs always end in time, so that it may use all lanes.
    """

    instances: int
    trusted: bool


class WorkerPool:
    """Pool of threads for a bounded amount of work; other work waits in a queue or is refused.

    Used from one event loop only. Work whose caller has gone never starts; work that has started
    keeps its lane until it ends. A halted run that continues is abandoned after a while: another
    lane replaces its lane.

    Models take turns in the order of their arrival, whatever the number of requests to each. A
    model has no more lanes than its share, so that a slow model leaves lanes to others. The queue
    is shared too: when it is full, the model with the most requests in it loses the latest one.

    Attributes:
        waiting: The number of waiting requests, including those that wait for a batch.
    """

    def __init__(self, count: int, longest_line: int, overtime: float = OVERTIME_SECONDS) -> None:
        self.count = count
        self.longest_line = longest_line
        self.overtime = overtime
        self.waiting = 0
        self._taken = 0
        self._running: Counter[Owner | None] = Counter()
        self._turns: OrderedDict[Owner | None, deque[asyncio.Future[None]]] = OrderedDict()
        self._places: dict[Owner | None, dict[QueueSlot, None]] = {}
        self._runs: dict[asyncio.Future[Any], Future[Any]] = {}
        self._abandoned: set[asyncio.Future[Any]] = set()
        self._threads = ThreadPoolExecutor(count + MAX_ABANDONED, thread_name_prefix="lane")

    async def run(
        self,
        work: Callable[[], Result],
        deadline: float | None = None,
        halt: Halt | None = None,
        owner: Owner | None = None,
    ) -> Result:
        """Run ``work`` in a thread when its turn comes.

        Args:
            work: The work; it is not started after ``deadline``.
            deadline: In seconds of `time.monotonic`.
            halt: Stops ``work`` early when no caller waits for it any more.
            owner: The model that is run, if any; if it is not trusted, its run is stopped at the
                deadline.

        Raises:
            Overloaded: The line is full.
            DeadlineExceeded: The turn did not come in time, or the run did not end in time.
        """
        await self._turn_of_one(lambda: self.place(owner), deadline, owner)
        ends = halt is not None and owner is not None and not owner.trusted
        until = deadline if ends else None
        return await self._end_of(work, CancelToken(deadline), halt, owner, until=until)

    async def go_on(self, work: Callable[[], Result]) -> Result:
        """As `run`, for who was admitted before, and is not refused any more for the line."""
        await self._turn_of_one(lambda: QueueSlot(self), None, None)
        return await self._end_of(work, CancelToken(), None, None)

    def place(self, owner: Owner | None = None) -> QueueSlot:
        """A place in the line, for one request.

        Raises:
            Overloaded: The line is full.
        """
        if self.waiting >= self.longest_line and not self._make_room(owner):
            raise self._full()
        return QueueSlot(self, owner)

    async def turn(self, owner: Owner | None = None, place: QueueSlot | None = None) -> None:
        """Wait for a free lane, and take it; the caller holds a place in the queue.

        Raises:
            Overloaded: The place was lost to another request meanwhile.
        """
        if self._may_run(owner):
            self._take(owner)
            return
        turn = asyncio.get_running_loop().create_future()
        self._turns.setdefault(owner, deque()).append(turn)
        if place is not None:
            place.refuse = partial(_refuse, turn)
        try:
            await turn
        except BaseException:
            if not turn.cancelled() and turn.exception() is None:
                self.leave(owner)
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
        """Run ``work`` in the lane that was taken; the lane is free again when it ends.

        Args:
            work: What to do.
            token: The token for `cancellation.check` in the work.
            owner: The model that is run, if any.
        """
        context = copy_context()
        if token is not None:
            context.run(cancellation.install, token)
        try:
            running = self._threads.submit(context.run, _contained, work)
        except BaseException:
            self.leave(owner)
            raise
        future = asyncio.wrap_future(running)
        self._runs[future] = running
        future.add_done_callback(partial(self._ended, owner))
        return future

    def leave(self, owner: Owner | None = None) -> None:
        """Give back a lane that was taken."""
        self._taken -= 1
        self._let_go(owner)

    def give_up(self, run: asyncio.Future[Any]) -> None:
        """Abandon a halted run, if it has not ended after a while."""
        if not run.done():
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self.overtime, self._abandon, run)
            run.add_done_callback(lambda _: timer.cancel())

    def close(self, seconds: float = inf) -> bool:
        """End the threads after their present work, without waiting for abandoned runs.

        Returns:
            Whether all threads have ended within ``seconds``.
        """
        self._threads.shutdown(wait=False)
        running = dict(self._runs)
        awaited = [each for run, each in running.items() if run not in self._abandoned]
        wait(awaited, None if seconds == inf else seconds)
        return all(each.done() for each in running.values())

    async def _end_of(
        self,
        work: Callable[[], Result],
        token: CancelToken,
        halt: Halt | None,
        owner: Owner | None,
        *,
        until: float | None = None,
    ) -> Result:
        future = self.start(work, token, owner)
        try:
            return await _until(asyncio.shield(future), until)
        except (asyncio.CancelledError, DeadlineExceeded):
            token.cancel()
            if halt is not None:
                halt.now()
                self.give_up(future)
            # Whoever waited is gone; what comes of the work, an error too, is nobody's.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        finally:
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del future

    async def _turn_of_one(
        self, place: Callable[[], QueueSlot], deadline: float | None, owner: Owner | None
    ) -> None:
        if self._may_run(owner):
            self._take(owner)
        else:
            await self._wait(place, deadline, owner)
        if is_late(deadline):
            self.leave(owner)
            raise DeadlineExceeded(LATE)

    async def _wait(
        self, place: Callable[[], QueueSlot], deadline: float | None, owner: Owner | None
    ) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        try:
            with place() as taken:
                async with asyncio.timeout(left):
                    await self.turn(owner, taken)
        except TimeoutError as error:
            raise DeadlineExceeded(LATE) from error

    def _may_run(self, owner: Owner | None) -> bool:
        return self._taken < self.count and self._running[owner] < self._share(owner)

    def _share(self, owner: Owner | None) -> int:
        """Return the number of lanes that ``owner`` may have at a time."""
        if owner is None:
            return self.count
        return owner.instances or (self.count if owner.trusted else max(1, self.count - 1))

    def _take(self, owner: Owner | None) -> None:
        self._taken += 1
        self._running[owner] += 1

    def _let_go(self, owner: Owner | None) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        self._grant()

    def _grant(self) -> None:
        """Give free lanes to waiting work, one model after the other."""
        while (owner := next(filter(self._may_run, self._turns), NO_OWNER)) is not NO_OWNER:
            turns = self._turns[owner]
            turn = turns.popleft()
            self._turns.move_to_end(owner)
            if not turns:
                del self._turns[owner]
            if not turn.done():
                self._take(owner)
                turn.set_result(None)

    def _forget(self, owner: Owner | None, turn: asyncio.Future[None]) -> None:
        turns = self._turns.get(owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._turns[owner]

    def _ended(self, owner: Owner | None, run: asyncio.Future[Any]) -> None:
        del self._runs[run]
        if run in self._abandoned:
            self._abandoned.discard(run)
            metrics.ABANDONED_LANES.dec()
        else:
            self._taken -= 1
        self._let_go(owner)

    def _abandon(self, run: asyncio.Future[Any]) -> None:
        """Replace the lane in which ``run`` does not end by another lane.

        The run still counts for its model, which therefore cannot abandon more than its share.
        """
        if not run.done() and len(self._abandoned) < MAX_ABANDONED:
            self._abandoned.add(run)
            metrics.ABANDONED_LANES.inc()
            self._taken -= 1
            self._grant()

    def _make_room(self, owner: Owner | None) -> bool:
        """Remove the latest request of the longest queue, if that exceeds ``owner``'s queue."""
        largest = max(self._places.values(), key=len, default={})
        if len(largest) <= len(self._places.get(owner, ())) + 1:
            return False
        for place in reversed(largest):
            if place.refuse is not None:
                place.refuse(self._full())
                place.leave()
                return True
        return False

    def _full(self) -> Overloaded:
        return Overloaded("queue", f"{self.longest_line} requests are waiting")


def _refuse(turn: asyncio.Future[None], error: Overloaded) -> None:
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
            raise
        raise DeadlineExceeded(UNFINISHED) from error
    finally:
        del future  # as in `WorkerPool._end_of`


def _contained(work: Callable[[], Result]) -> Result:
    """Return the result of ``work``; its error keeps only the data for logs."""
    try:
        return work()
    except BaseException as error:
        clear_locals(error)
        raise
    finally:
        del work


class QueueSlot:
    """Place of a request in the queue; it is released when its block ends, or earlier.

    Attributes:
        refuse: Tells the request that it has lost the place; None means that it cannot lose it.
    """

    __slots__ = ("_lanes", "_owner", "refuse")

    def __init__(self, worker_pool: WorkerPool, owner: Owner | None = None) -> None:
        self.refuse: Callable[[Overloaded], None] | None = None
        self._lanes: WorkerPool | None = worker_pool
        self._owner = owner
        worker_pool.waiting += 1
        worker_pool._places.setdefault(owner, {})[self] = None  # noqa: SLF001 - of one module
        metrics.QUEUE_DEPTH.inc()

    def leave(self) -> None:
        """Wait no more, whatever for; more than once does no harm."""
        if self._lanes is not None:
            self._lanes.waiting -= 1
            places = self._lanes._places  # noqa: SLF001 - of one module
            del places[self._owner][self]
            if not places[self._owner]:
                del places[self._owner]
            metrics.QUEUE_DEPTH.dec()
            self._lanes = self._owner = self.refuse = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


def is_late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
