"""Calls that fit together, as they wait to be computed."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from math import inf

from gatewave.service.codecs.dtypes import Array
from gatewave.service.errors import DeadlineExceeded, ServiceError
from gatewave.service.onnx.engine import Halt
from gatewave.service.serving.model import Batching
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.worker_pool import LATE, UNFINISHED, QueueSlot, is_late
from gatewave.service.system.tracebacks import clear_locals

Outcome = dict[str, Array] | ServiceError

SHARE_OF_PATIENCE = 0.5
"""So much of the time that a request has is spent on waiting for company, at most: what is left
must do for a lane and a thread, and half of little is enough on a machine that is not full."""


class PendingRequest:
    """Queued call, and the future that its caller awaits.

    Attributes:
        rows: The number of its rows.
        admitted: Its arrival, by `time.perf_counter`.
        due: End of its wait for a batch, by `time.monotonic`.
        halt: Ends its run, if it is computed alone.
    """

    __slots__ = ("admitted", "call", "due", "future", "halt", "place", "rows", "timers")

    def __init__(self, call: InferenceRequest, place: QueueSlot, max_delay: float) -> None:
        self.call = call
        self.place = place
        self.future: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()
        self.rows: int = next(iter(call.inputs.values())).shape[0]
        self.admitted = time.perf_counter()
        now = time.monotonic()
        left = max_delay
        if call.deadline is not None:
            left = min(left, (call.deadline - now) * SHARE_OF_PATIENCE)
        self.due = now + left
        self.timers: list[asyncio.TimerHandle] = []
        self.halt: Halt | None = None

    def settle(self, outcome: Outcome | BaseException) -> None:
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
        """Wait no more: the turn has come, or never will."""
        self.place.leave()
        self._stop_timers()

    def end_by_deadline(self) -> None:
        """Fail the future at the deadline, also while the call is computed."""
        if self.call.deadline is not None:
            left = self.call.deadline - time.monotonic()
            loop = asyncio.get_running_loop()
            late = DeadlineExceeded(UNFINISHED)
            self.timers.append(loop.call_later(left, self.settle, late))

    def _stop_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


class RequestQueue:
    """Those who wait with calls that fit together, from the first that came.

    Who is late, or gone, is out of it at once, with all that the call holds.

    Attributes:
        ready: Set when there is nothing to wait for but a lane: there are rows for a batch, or
            somebody's patience has ended; or nobody is there any more.
    """

    def __init__(self, batching: Batching) -> None:
        self.batching = batching
        self.ready = asyncio.Event()
        self._rows = 0
        self._members: dict[PendingRequest, None] = {}

    def __len__(self) -> int:
        return len(self._members)

    def add(self, call: InferenceRequest, place: QueueSlot) -> PendingRequest:
        """Have ``call`` wait at the end of the line."""
        waiting = PendingRequest(call, place, self.batching.max_delay)
        place.refuse = partial(self._refuse, waiting)
        self._members[waiting] = None
        self._rows += waiting.rows
        loop, now = asyncio.get_running_loop(), time.monotonic()
        if call.deadline is not None:
            waiting.timers.append(
                loop.call_later(call.deadline - now, self._refuse, waiting, DeadlineExceeded(LATE))
            )
        if waiting.due > now:
            waiting.timers.append(loop.call_later(waiting.due - now, self._release, waiting))
        self._look()
        return waiting

    def discard(self, waiting: PendingRequest) -> None:
        """Let go who waits no more; whoever has left already is none of the line's."""
        if waiting in self._members:
            self._leave(waiting)
            self._look()

    def batch(self) -> list[PendingRequest]:
        """The first, as many as one run takes; they have left the line."""
        batch: list[PendingRequest] = []
        rows = 0
        while self._members:
            first = next(iter(self._members))
            if batch and rows + first.rows > self.batching.max_size:
                break
            self._leave(first)
            if is_late(first.call.deadline):
                first.settle(DeadlineExceeded(LATE))
            elif not first.future.done():
                batch.append(first)
                rows += first.rows
        self._look()
        return batch

    def _leave(self, waiting: PendingRequest) -> None:
        del self._members[waiting]
        self._rows -= waiting.rows
        waiting.leave()

    def _refuse(self, waiting: PendingRequest, error: ServiceError) -> None:
        self.discard(waiting)
        waiting.settle(error)

    def _release(self, waiting: PendingRequest) -> None:
        # Timers may be early by the clock's grain; this one does not come again.
        waiting.due = -inf
        self._look()

    def _look(self) -> None:
        """See whether there is still something to wait for."""
        if self._is_ready():
            self.ready.set()
        else:
            self.ready.clear()

    def _is_ready(self) -> bool:
        if not self._members or not self.batching.max_delay or self._rows >= self.batching.max_size:
            return True
        now = time.monotonic()
        return any(waiting.due <= now for waiting in self._members)
