"""Inference pipeline, the same for each protocol: decode, queue, compute, encode, account.

`Pipeline.answer` drives an `InferenceProtocol` through all steps. `Pipeline.fast_answer` does the
same without a pause, for requests whose steps are all short enough for the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Protocol, TypeVar

from gatewave.service.codecs.bodies import Body
from gatewave.service.codecs.datatypes import Array
from gatewave.service.codecs.nested import memory_of_lists
from gatewave.service.codecs.simd import NotPlain
from gatewave.service.errors import DeadlineExceeded, LimitExceeded
from gatewave.service.observability.metrics import Span, timed
from gatewave.service.observability.tracing.trace import Trace
from gatewave.service.serving.batcher import Batcher
from gatewave.service.serving.memory import Budget, Permit
from gatewave.service.serving.model import Model
from gatewave.service.serving.protocol import (
    Decoded,
    Decoding,
    InferenceProtocol,
    Output,
    Source,
    Stage,
    TextStage,
)
from gatewave.service.serving.request import InferenceRequest, Timing
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
"""Bytes in memory for each byte of results that are written as text: the byte itself, and up to 16
characters for a float32."""


class CancelOnDisconnect(Protocol):
    """Function that awaits work, and cancels it when the caller disconnects."""

    def __call__(self, work: Coroutine[Any, Any, Result], /) -> Coroutine[Any, Any, Result]:
        """Return a coroutine with the result of ``work``."""


async def _awaited(work: Coroutine[Any, Any, Result], /) -> Result:
    """Await ``work``: the transport itself cancels the task of a caller that disconnects."""
    return await work


class Pipeline:
    """Pipeline from request bodies to answers.

    Short work runs on the event loop, because a change of threads takes longer. Long work runs in
    the worker pool, and requests to batched models run together.

    Args:
        worker_pool: Threads for long work.
        budget: Limit on the memory of all requests.
        inline_bytes: Largest size of work on the event loop.
        output_bytes: Largest size of the outputs of one request.
    """

    def __init__(
        self, worker_pool: WorkerPool, budget: Budget, *, inline_bytes: int, output_bytes: int
    ) -> None:
        self.worker_pool = worker_pool
        self.budget = budget
        self.inline_bytes = inline_bytes
        self.output_bytes = output_bytes
        self._batcher = Batcher(worker_pool, output_bytes)

    async def answer(
        self,
        protocol: InferenceProtocol[Source, Output],
        body: Body,
        timing: Timing,
        permit: Permit,
        cancel_on_disconnect: CancelOnDisconnect = _awaited,
    ) -> Output:
        """Answer one request, and count it.

        Args:
            protocol: The protocol of the request.
            body: The complete body.
            timing: The times of its arrival and its deadline.
            permit: The permit that holds its memory until the answer was sent.
            cancel_on_disconnect: Await function for work that may take long.

        Raises:
            ServiceError: The request has no answer.
        """
        with timing.counted_failure():
            step = protocol.decode(body, timing)
            decoded, decoding = await self._decoded(step, timing, permit, cancel_on_disconnect)
            timing.model = decoded.call.model
            work = self._computed(protocol, decoded, permit)
            # Light work has no pause in which a disconnect could be seen.
            is_light = self._is_light(decoded.call)
            output, encoding = await (work if is_light else cancel_on_disconnect(work))
        decoded.call.model.meter.finished(timing.began, decoding, encoding)
        return output

    def fast_answer(
        self,
        protocol: InferenceProtocol[Source, Output],
        body: Body,
        arrived: float,
        *,
        is_compressed: bool = False,
    ) -> Output | None:
        """Answer one request without a pause, and count it.

        The steps are those of `answer`. Memory is not held in the budget: a single request is
        answered at a time, and all of its parts are small.

        Args:
            protocol: The protocol of the request.
            body: The complete body, not longer than `inline_bytes`.
            arrived: The time of its arrival, in seconds of `time.perf_counter`.
            is_compressed: Whether the caller of this method compresses the answer.

        Returns:
            The answer; None if a step is too long for the event loop.

        Raises:
            NotPlain: The quick reader does not read the text.
            ServiceError: The request has no answer. It was not counted: `answer` reports the error.
        """
        began = time.perf_counter()
        # All arguments are given, because the defaults read two clocks, which takes a microsecond.
        # Without the second clock, `Timing.arrival` computes the time of arrival when it is needed.
        step = protocol.decode(body, Timing(None, arrived, inf))
        while not isinstance(step, Decoded):
            if isinstance(step, TextStage):
                step = step.plain(step.text, step.timing)
            elif step.size <= self.inline_bytes:
                step = step.work()
            else:
                return None
        weight = protocol.result_weight(step) if is_compressed else 1
        if not self._is_light(step.call, weight):
            return None
        return self.answer_now(protocol, step, arrived, (began, time.perf_counter()))

    def answer_now(
        self,
        protocol: InferenceProtocol[Source, Output],
        decoded: Decoded[Source],
        arrived: float,
        decoding: Span,
    ) -> Output:
        """Compute, encode and count a decoded request in the current thread.

        Raises:
            DeadlineExceeded: The deadline has passed.
            ModelFailed: The graph cannot be run on these inputs.
        """
        outputs = self.now(decoded.call)
        computed = time.perf_counter()
        output = protocol.encode(decoded, outputs)
        decoded.call.model.meter.finished(arrived, decoding, (computed, time.perf_counter()))
        return output

    async def infer(
        self, call: InferenceRequest, permit: Permit, *, weight: int = 1
    ) -> dict[str, Array]:
        """Return the outputs of ``call``, and count the run. Outputs may reuse the inputs' memory.

        Args:
            call: The checked request.
            permit: The permit of the results, until the answer was sent.
            weight: Bytes in memory for each byte of the results.

        Raises:
            Overloaded: The queue is full, or there is not enough memory now.
            DeadlineExceeded: The run did not start in time or, for a model that is not trusted, end
                in time.
            LimitExceeded: The outputs are too large.
            ModelFailed: The graph cannot be run on these inputs.
        """
        model = call.model
        if call.trace is not None:
            describe(call.trace, model)
        produced = model.output_bytes(call.inputs, call.outputs)
        if self._is_immediate(call):
            permit.take(produced * weight)
            return self.now(call)
        self.check_produced(produced, "inputs")
        permit.take(produced * weight)
        if model.batching is not None:
            return await self._batcher.run(call, model.batching)
        return await self._queued(call)

    def check_produced(self, produced: int, field: str) -> None:
        """Refuse a request with results of ``produced`` bytes, if they are too many.

        Raises:
            LimitExceeded: They are too many; the error names ``field``.
        """
        if produced > self.output_bytes:
            expected = f"outputs of at most {self.output_bytes} bytes"
            raise LimitExceeded.at(field, expected, produced)

    def is_inline(self, size: int) -> bool:
        """Return whether work on ``size`` bytes of text is done on the event loop."""
        return size <= self.inline_bytes

    async def work(
        self,
        size: int,
        work: Callable[[], Result],
        token: CancelToken | None = None,
    ) -> Result:
        """Do ``work`` on ``size`` bytes of text: on the event loop, or in a thread if it is long.

        Raises:
            Overloaded: The queue is full.
            DeadlineExceeded: The work could not start before the deadline of ``token``.
        """
        if size <= self.inline_bytes:
            return work()
        return await self.worker_pool.run(partial(_uncollected, work), token)

    async def finish(self, size: int, work: Callable[[], Result]) -> Result:
        """Do ``work`` as `work` does, for a computed request: a full queue does not refuse it."""
        if size <= self.inline_bytes:
            return work()
        return await self.worker_pool.run_admitted(work)

    def now(self, call: InferenceRequest) -> dict[str, Array]:
        """Compute ``call`` in the current thread, and count the run.

        Raises:
            DeadlineExceeded: The deadline has passed.
            ModelFailed: The graph cannot be run on these inputs.
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

    async def _decoded(
        self,
        step: Decoding[Source],
        timing: Timing,
        permit: Permit,
        cancel_on_disconnect: CancelOnDisconnect,
    ) -> tuple[Decoded[Source], Span]:
        """Return the decoded request, and a span as long as its stages, without their waiting."""
        total = ended = 0.0
        while not isinstance(step, Decoded):
            step, (began, ended) = await self._stage(step, timing, permit, cancel_on_disconnect)
            total += ended - began
        return step, (ended - total, ended)

    async def _stage(
        self,
        step: Stage[Source] | TextStage[Source],
        timing: Timing,
        permit: Permit,
        cancel_on_disconnect: CancelOnDisconnect,
    ) -> tuple[Decoding[Source], Span]:
        if isinstance(step, TextStage):
            if self.is_inline(len(step.text)):
                with suppress(NotPlain):
                    return timed(step.read_plain)()
                # After the handler of that error, which would keep simdjson's document alive.
                size, work = len(step.text) * READ_WEIGHT, step.read_completely
            else:
                size, work = len(step.text), step.read
            # The lists of JSON take many times the memory of their text.
            step = Stage(size, work, memory_of_lists(step.text))
        permit.take(step.memory)
        doing = self.work(step.size, timed(step.work), CancelToken(timing.deadline))
        return await (doing if self.is_inline(step.size) else cancel_on_disconnect(doing))

    async def _computed(
        self,
        protocol: InferenceProtocol[Source, Output],
        decoded: Decoded[Source],
        permit: Permit,
    ) -> tuple[Output, Span]:
        weight = protocol.result_weight(decoded)
        outputs = await self.infer(decoded.call, permit, weight=weight)
        encode = timed(partial(protocol.encode, decoded, outputs))
        return await self.finish(protocol.encoding_size(decoded, outputs), encode)

    def _is_immediate(self, call: InferenceRequest) -> bool:
        """Return whether ``call`` is computed on the event loop."""
        model = call.model
        if not model.trusted or model.batching is not None:
            return False
        return sum([tensor.nbytes for tensor in call.inputs.values()]) <= self.inline_bytes

    def _is_light(self, call: InferenceRequest, weight: int = 1) -> bool:
        """Return whether ``call`` is computed, and its results written, on the event loop."""
        if not self._is_immediate(call):
            return False
        return call.model.output_bytes(call.inputs, call.outputs) * weight <= self.inline_bytes

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
    """Do ``work`` without garbage collection: each run would visit all objects of a document."""
    with held_back:
        try:
            return work()
        except BaseException as error:
            clear_locals(error)
            raise


def describe(trace: Trace, model: Model) -> None:
    """Add the attributes of ``model`` to ``trace``."""
    trace.attributes |= {
        "gatewave.model": model.name,
        "gatewave.model.version": model.version,
        "gatewave.provider": model.provider,
    }
