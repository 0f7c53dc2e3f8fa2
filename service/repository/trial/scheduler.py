"""Scheduler of trials: models that never end do not delay others."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

SLOT_SECONDS = 2.0
"""Seconds in a slot while other trials wait; then the trial continues beside the slots. A usual
trial takes half a second (ADR 12)."""
MIN_SECONDS = 10.0
"""Seconds of a trial before it may be ended for one with fewer starts. They double with each start,
so that the trial of a slow model is completed at last."""


class ScheduledTrial:
    """Waiting or running trial.

    Attributes:
        name: The model's name.
        starts: The number of its starts; trials with fewer starts come first.
        is_settled: Whether it has passed, and is no longer ended for others.
    """

    __slots__ = ("began", "is_ended", "is_settled", "name", "order", "starts", "task", "turn")

    def __init__(self, name: str, starts: int, order: int) -> None:
        self.name = name
        self.starts = starts
        self.order = order
        self.began = 0.0
        self.is_settled = False
        self.is_ended = False
        self.task: asyncio.Task[Any] | None = None
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class TrialScheduler:
    """Slots for trials; used from one event loop only.

    While others wait, a trial leaves its slot soon and continues beside the slots, together with at
    most as many others as there are slots. Beyond that number, the longest running trial is ended
    and repeated later: models that were never tried come first.
    """

    def __init__(
        self,
        slots: int,
        slot_seconds: float = SLOT_SECONDS,
        min_seconds: float = MIN_SECONDS,
    ) -> None:
        self.slots = slots
        self.slot_seconds = slot_seconds
        self.min_seconds = min_seconds
        self._order = itertools.count()
        self._waiting: list[ScheduledTrial] = []
        self._running: set[ScheduledTrial] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def run(
        self,
        name: str,
        work: Callable[[ScheduledTrial], Coroutine[Any, Any, Result]],
        starts: int = 0,
    ) -> Result:
        """Run ``work`` when its turn comes; restart it if it was ended for others.

        Args:
            name: The name of the tried model.
            work: The trial.
            starts: The number of earlier starts without a result.
        """
        trial = ScheduledTrial(name, starts, next(self._order))
        while True:
            await self._wait_for_turn(trial)
            try:
                task: asyncio.Task[Result] = asyncio.create_task(work(trial))
                trial.task = task
                return await task
            except asyncio.CancelledError:
                # Repeat a trial that `_end_one` ended, unless the caller was cancelled as well.
                caller = asyncio.current_task()
                if not trial.is_ended or (caller is not None and caller.cancelling()):
                    raise
            finally:
                self._running.discard(trial)
                self._schedule()

    async def _wait_for_turn(self, trial: ScheduledTrial) -> None:
        trial.turn = asyncio.get_running_loop().create_future()
        self._waiting.append(trial)
        self._schedule()
        try:
            await trial.turn
        except asyncio.CancelledError:
            # The turn may have come in the same cycle of the event loop.
            if trial in self._waiting:
                self._waiting.remove(trial)
            self._running.discard(trial)
            self._schedule()
            raise

    def _schedule(self) -> None:
        """Start the trials that may start, and set a timer for when more may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        while self._waiting and self._has_room(now):
            self._start(self._next(), now)
        if not self._waiting:
            return
        if len(self._running) >= 2 * self.slots:
            self._end_one(self._next(), now)
        times = [
            trial.began + wait
            for trial in self._running
            for wait in (self.slot_seconds, self._min_seconds(trial))
        ]
        later = min((at for at in times if at > now), default=None)
        if later is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(later - now, self._schedule)

    def _next(self) -> ScheduledTrial:
        """Return the waiting trial with the fewest starts, then of the model with fewest trials."""
        of_model = Counter(trial.name for trial in self._running)
        return min(self._waiting, key=lambda t: (t.starts, of_model[t.name], t.order))

    def _has_room(self, now: float) -> bool:
        in_slots = sum(now - trial.began < self.slot_seconds for trial in self._running)
        return in_slots < self.slots and len(self._running) < 2 * self.slots

    def _start(self, trial: ScheduledTrial, now: float) -> None:
        self._waiting.remove(trial)
        self._running.add(trial)
        trial.began = now
        trial.starts += 1
        trial.is_ended = trial.is_settled = False
        trial.turn.set_result(None)

    def _min_seconds(self, trial: ScheduledTrial) -> float:
        """Return the seconds that a trial may run even if others wait."""
        return self.min_seconds * 2.0 ** (trial.starts - 1)

    def _end_one(self, waiting: ScheduledTrial, now: float) -> None:
        """End the longest running trial that has more starts than ``waiting``, if it may end."""
        if any(trial.is_ended for trial in self._running):
            # Its process has not ended yet; its place is the next one.
            return
        candidates = [
            trial
            for trial in self._running
            if trial.starts > waiting.starts
            and not trial.is_settled
            and trial.task is not None
            and now - trial.began >= self._min_seconds(trial)
        ]
        if candidates:
            oldest = min(candidates, key=lambda trial: trial.began)
            oldest.is_ended = True
            if oldest.task is not None:
                oldest.task.cancel()
