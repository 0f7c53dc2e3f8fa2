"""Queue of requests that can be computed in one run, and the waiting for a batch."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from math import inf

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import DeadlineExceeded, ServiceError
from gatewave.service.serving.model import Batching
from gatewave.service.serving.queue import QueueSlot
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.worker_pool import LATE, UNFINISHED, is_late
from gatewave.service.system.cancellation import CancelToken
from gatewave.service.system.tracebacks import clear_locals

Outcome = dict[str, Array] | ServiceError

BATCH_WAIT_SHARE = 0.5
"""Largest part of a request's remaining time that it waits for a batch. The other half must do for
getting a thread and computing, which suffices on a machine that is not overloaded."""


class PendingRequest:
    """Queued request, and the future that its caller awaits.

    Attributes:
        rows: Size of the first axis of its inputs.
        queued_at: Time of its arrival, by `time.perf_counter`.
        batch_at: End of its wait for a batch, by `time.monotonic`.
        token: Cancels its run, if it is computed alone.
    """

    __slots__ = ("batch_at", "future", "queued_at", "request", "rows", "slot", "timers", "token")

    def __init__(self, request: InferenceRequest, slot: QueueSlot, max_delay: float) -> None:
        self.request = request
        self.slot = slot
        self.future: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()
        self.rows: int = next(iter(request.inputs.values())).shape[0]
        self.queued_at = time.perf_counter()
        now = time.monotonic()
        delay = max_delay
        if request.deadline is not None:
            delay = min(delay, (request.deadline - now) * BATCH_WAIT_SHARE)
        self.batch_at = now + delay
        self.timers: list[asyncio.TimerHandle] = []
        self.token: CancelToken | None = None

    def settle(self, outcome: Outcome | BaseException) -> None:
        """Give the caller the outcome, if it still waits."""
        self._stop_timers()
        if self.future.done():
            return
        if isinstance(outcome, BaseException):
            # Some frames of its traceback refer to this future.
            clear_locals(outcome)
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def leave(self) -> None:
        """Release the slot and stop the timers of the queue."""
        self.slot.leave()
        self._stop_timers()

    def fail_at_deadline(self) -> None:
        """Fail the future at the deadline, also while the request is computed."""
        if self.request.deadline is not None:
            left = self.request.deadline - time.monotonic()
            loop = asyncio.get_running_loop()
            late = DeadlineExceeded(UNFINISHED)
            self.timers.append(loop.call_later(left, self.settle, late))

    def _stop_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


class BatchQueue:
    """First-in, first-out queue of requests that can be computed in one run.

    A request whose deadline has passed, or whose caller has gone, is removed at once, with the
    tensors that it holds.

    Attributes:
        ready: Set when a batch needs only a thread: there are enough rows for one, a request has
            waited long enough for others, or the queue has become empty.
    """

    def __init__(self, batching: Batching) -> None:
        self.batching = batching
        self.ready = asyncio.Event()
        self._rows = 0
        # A dict keeps the order of insertion, and removes from the middle in constant time.
        self._pending: dict[PendingRequest, None] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, request: InferenceRequest, slot: QueueSlot) -> PendingRequest:
        """Append ``request``."""
        pending = PendingRequest(request, slot, self.batching.max_delay)
        slot.evict = partial(self._refuse, pending)
        self._pending[pending] = None
        self._rows += pending.rows
        loop, now = asyncio.get_running_loop(), time.monotonic()
        if request.deadline is not None:
            late = DeadlineExceeded(LATE)
            left = request.deadline - now
            pending.timers.append(loop.call_later(left, self._refuse, pending, late))
        if pending.batch_at > now:
            delay = pending.batch_at - now
            pending.timers.append(loop.call_later(delay, self._end_wait, pending))
        self._update()
        return pending

    def remove(self, pending: PendingRequest) -> None:
        """Remove a pending request; does nothing if it has already left."""
        if pending in self._pending:
            self._remove(pending)
            self._update()

    def next_batch(self) -> list[PendingRequest]:
        """Remove and return the first requests, as many as one run takes.

        The first one is taken however many rows it has. Requests that cannot start in time fail.
        """
        batch: list[PendingRequest] = []
        rows = 0
        while self._pending:
            first = next(iter(self._pending))
            if batch and rows + first.rows > self.batching.max_size:
                break
            self._remove(first)
            # The timer of the deadline may be due, and not have run yet on a busy event loop.
            if is_late(first.request.deadline):
                first.settle(DeadlineExceeded(LATE))
            elif not first.future.done():
                batch.append(first)
                rows += first.rows
        self._update()
        return batch

    def _remove(self, pending: PendingRequest) -> None:
        del self._pending[pending]
        self._rows -= pending.rows
        pending.leave()

    def _refuse(self, pending: PendingRequest, error: ServiceError) -> None:
        self.remove(pending)
        pending.settle(error)

    def _end_wait(self, pending: PendingRequest) -> None:
        # The event loop runs timers up to its clock's resolution early. Compared with the clock,
        # `batch_at` could still lie ahead, and this timer does not run again.
        pending.batch_at = -inf
        self._update()

    def _update(self) -> None:
        if self._is_ready():
            self.ready.set()
        else:
            self.ready.clear()

    def _is_ready(self) -> bool:
        if not self._pending or not self.batching.max_delay or self._rows >= self.batching.max_size:
            return True
        # Not only the first request: one with a close deadline waits less than those before it.
        now = time.monotonic()
        return any(pending.batch_at <= now for pending in self._pending)
