"""From tensors to tensors: the one way by which every protocol has a model run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import DeadlineExceeded, LimitExceeded
from gatewave.service.observability.tracing.trace import Trace
from gatewave.service.serving.batcher import Batcher
from gatewave.service.serving.memory import Budget, Permit
from gatewave.service.serving.model import Model
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.sizes import check_results
from gatewave.service.serving.worker_pool import LATE, WorkerPool, is_late
from gatewave.service.system.cancellation import CancelToken
from gatewave.service.system.collector import held_back
from gatewave.service.system.tracebacks import clear_locals

Result = TypeVar("Result")

READ_WEIGHT = 8
"""Bytes of plain text that take as long as one byte with the complete reader. With this factor, no
reading on the event loop takes more than 5 ms."""

TEXT_WEIGHT = 5
"""How many bytes a byte of results comes to that are written as text: itself, and the up to 16
characters of a float32."""


class Inference:
    """Runs calls: small ones on the event loop, large ones in lanes, batched ones together."""

    def __init__(
        self, worker_pool: WorkerPool, budget: Budget, *, inline_bytes: int, output_bytes: int
    ) -> None:
        self.worker_pool = worker_pool
        self.budget = budget
        self.inline_bytes = inline_bytes
        self.output_bytes = output_bytes
        self._batcher = Batcher(worker_pool, output_bytes)

    async def infer(
        self, call: InferenceRequest, permit: Permit, *, weight: int = 1
    ) -> dict[str, Array]:
        """Compute ``call``, and count it. Results may reuse the memory of its inputs.

        Args:
            call: The checked call.
            permit: The permit of the results, until the answer was taken.
            weight: Bytes of the written answer for each byte of the results.

        Raises:
            Overloaded: There is no room for it now.
            DeadlineExceeded: It did not start in time or, for a model that is not trusted, end in
                time.
            LimitExceeded: Its outputs would be too large.
            ModelFailed: The graph could not be run on these inputs.
        """
        model = call.model
        if call.trace is not None:
            describe(call.trace, model)
        produced = model.output_bytes(call.inputs, call.outputs)
        if self.is_immediate(call):
            permit.take(produced * weight)
            return self.now(call)
        self.check_produced(produced, "inputs")
        permit.take(produced * weight)
        if model.batching is not None:
            return await self._batcher.run(call, model.batching)
        return await self._queued(call)

    def check_produced(self, produced: int, field: str) -> None:
        """Refuse what would have results of so many bytes, if they are too many.

        Raises:
            LimitExceeded: They are; ``field`` is to blame.
        """
        if produced > self.output_bytes:
            expected = f"outputs of at most {self.output_bytes} bytes"
            raise LimitExceeded.at(field, expected, produced)

    def is_immediate(self, call: InferenceRequest) -> bool:
        """Whether ``call`` is computed on the event loop: it takes less than to hand it over."""
        model = call.model
        if not model.trusted or model.batching is not None:
            return False
        return sum([tensor.nbytes for tensor in call.inputs.values()]) <= self.inline_bytes

    def is_light(self, call: InferenceRequest) -> bool:
        """Whether no part of ``call``, nor the writing of its results, takes a lane."""
        if not self.is_immediate(call):
            return False
        return call.model.output_bytes(call.inputs, call.outputs) <= self.inline_bytes

    def is_inline(self, size: int) -> bool:
        """Return whether work on ``size`` bytes of text is done on the event loop."""
        return size <= self.inline_bytes

    async def work(
        self,
        size: int,
        work: Callable[[], Result],
        token: CancelToken | None = None,
    ) -> Result:
        """Do ``work`` on ``size`` bytes of text: here if they are few, otherwise in a lane.

        Raises:
            Overloaded: The queue is full.
            DeadlineExceeded: The work could not start before the deadline of ``token``.
        """
        if size <= self.inline_bytes:
            return work()
        return await self.worker_pool.run(partial(_uncollected, work), token)

    async def finish(self, size: int, work: Callable[[], Result]) -> Result:
        """As `work`, for a request that was computed: it has started, and is not refused now."""
        if size <= self.inline_bytes:
            return work()
        return await self.worker_pool.run_admitted(work)

    def now(self, call: InferenceRequest) -> dict[str, Array]:
        """Compute ``call`` here, in whatever thread, and count it.

        Raises:
            DeadlineExceeded: It is too late.
            ModelFailed: The graph could not be run on these inputs.
        """
        if is_late(call.deadline):
            raise DeadlineExceeded(LATE)
        began = time.perf_counter()
        outputs = call.model.run(call.inputs, call.outputs, call.scalars)
        ended = time.perf_counter()
        meter = call.model.meter
        meter.compute.observe(ended - began)
        if call.trace is not None:
            call.trace.mark("compute", began, ended)
        return outputs

    async def _queued(self, call: InferenceRequest) -> dict[str, Array]:
        admitted = time.perf_counter()
        token = CancelToken(call.deadline)

        def compute() -> dict[str, Array]:
            began = time.perf_counter()
            meter = call.model.meter
            meter.queue.observe(began - admitted)
            try:
                outputs = call.model.run(
                    call.inputs, call.outputs, call.scalars, token, reuse_inputs=True
                )
            finally:
                ended = time.perf_counter()
                meter.compute.observe(ended - began)
                if call.trace is not None:
                    call.trace.mark("queue", admitted, began)
                    call.trace.mark("compute", began, ended)
            check_results(outputs, self.output_bytes)
            return outputs

        return await self.worker_pool.run(compute, token, call.model)


def _uncollected(work: Callable[[], Result]) -> Result:
    """Do ``work`` while the collector is held back, until all that it has read is freed."""
    with held_back:
        try:
            return work()
        except BaseException as error:
            clear_locals(error)
            raise


def describe(trace: Trace, model: Model) -> None:
    """Say in ``trace`` which model is asked."""
    trace.attributes |= {
        "gatewave.model": model.name,
        "gatewave.model.version": model.version,
        "gatewave.provider": model.provider,
    }
