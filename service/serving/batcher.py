"""Dynamic batching: requests to one model that fit together are computed in one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gatewave.service.codecs.dtypes import Array
from gatewave.service.errors import (
    DeadlineExceeded,
    LimitExceeded,
    ModelFailed,
    ModelNotReady,
    Overloaded,
)
from gatewave.service.onnx.engine import Halt
from gatewave.service.serving.model import Batching
from gatewave.service.serving.queue import Outcome, PendingRequest, RequestQueue
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.sizes import check_results
from gatewave.service.serving.worker_pool import LATE, WorkerPool, is_late

Key = tuple[Any, ...]

FAILURES = (LimitExceeded, ModelFailed, ModelNotReady, Overloaded)
"""Errors of a run. A process of a model counts the results of all calls of a batch together."""
GONE = ModelFailed("nobody waits for it")


class Batcher:
    """Puts calls together.

    Calls fit together when they are to one model, the shapes of their tensors are equal after the
    first axis, and they want the same outputs with the same parameters. With a delay of 0 nothing
    waits for company: a batch is what has come while all lanes were busy.

    Of a model that nobody waits for nothing is kept: one that is replaced is let go.
    """

    def __init__(self, worker_pool: WorkerPool, output_bytes: int) -> None:
        self.worker_pool = worker_pool
        self.output_bytes = output_bytes
        self._lines: dict[Key, RequestQueue] = {}
        self._dispatchers: set[asyncio.Task[None]] = set()

    async def run(self, call: InferenceRequest, batching: Batching) -> dict[str, Array]:
        """Compute ``call``, alone or in company, as its model's ``batching`` says.

        Raises:
            Overloaded: The line is full, or there is no memory for it now.
            DeadlineExceeded: Its turn did not come in time.
            LimitExceeded: Its outputs are too large.
            ModelFailed: The graph could not be run on its own inputs.
        """
        place = self.worker_pool.place(call.model)
        line = self._line(_key(call), batching)
        waiting = line.add(call, place)
        try:
            return await waiting.future
        finally:
            line.discard(waiting)
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del waiting

    def _line(self, key: Key, batching: Batching) -> RequestQueue:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = RequestQueue(batching)
            task = asyncio.create_task(self._dispatch(key))
            self._dispatchers.add(task)
            task.add_done_callback(self._dispatchers.discard)
        return line

    async def _dispatch(self, key: Key) -> None:
        """Send off the line of ``key``, a batch for each lane that becomes free."""
        line, model = self._lines[key], key[0]
        while line:
            await line.ready.wait()
            await self.worker_pool.turn(model)
            batch = line.batch()
            if batch:
                self._compute(batch)
            else:
                self.worker_pool.leave(model)
        del self._lines[key]

    def _compute(self, batch: list[PendingRequest]) -> None:
        halt = Halt()

        def settle(done: asyncio.Future[list[Outcome]]) -> None:
            error = done.exception()
            outcomes = [error] * len(batch) if error is not None else done.result()
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.settle(outcome)

        run = self.worker_pool.start(lambda: self._outcomes(batch, halt), owner=batch[0].call.model)

        def perhaps_halt(waiting: PendingRequest, _: object) -> None:
            if waiting.halt is not None:
                waiting.halt.now()
            if all(other.future.done() for other in batch) and not run.done():
                halt.now()
                self.worker_pool.give_up(run)

        for waiting in batch:
            waiting.end_by_deadline()
            waiting.future.add_done_callback(partial(perhaps_halt, waiting))
        run.add_done_callback(settle)

    def _outcomes(self, batch: list[PendingRequest], halt: Halt) -> list[Outcome]:
        began = time.perf_counter()
        for waiting in batch:
            call = waiting.call
            call.model.meter.queue.observe(began - waiting.admitted)
            if call.trace is not None:
                call.trace.mark("queue", waiting.admitted, began)
        try:
            results = _together([waiting.call for waiting in batch], halt)
        except FAILURES as error:
            if len(batch) == 1:
                return [error]
            # One of them may be to blame for all: each alone, so that it fails alone.
            return [self._alone(waiting) for waiting in batch]
        return [self._within(result) for result in results]

    def _alone(self, waiting: PendingRequest) -> Outcome:
        """What comes of a call that failed in company: others have been tried before it."""
        # Before its future is checked: code that settles the future checks the flag afterwards.
        halt = waiting.halt = Halt()
        if waiting.future.done():
            return GONE
        if is_late(waiting.call.deadline):
            return DeadlineExceeded(LATE)
        try:
            return self._within(_together([waiting.call], halt)[0])
        except FAILURES as error:
            return error

    def _within(self, result: dict[str, Array]) -> Outcome:
        try:
            check_results(result, self.output_bytes)
        except LimitExceeded as error:
            return error
        return result


def _together(calls: Sequence[InferenceRequest], halt: Halt) -> list[dict[str, Array]]:
    """The outputs of each call, all computed in one run of the model."""
    first = calls[0]
    lengths = [next(iter(call.inputs.values())).shape[0] for call in calls]
    inputs = {name: _joined([call.inputs[name] for call in calls]) for name in first.inputs}
    began = time.perf_counter()
    try:
        outputs = first.model.run(inputs, first.outputs, first.scalars, halt)
    finally:
        ended = time.perf_counter()
        first.model.meter.compute.observe(ended - began)
        first.model.meter.batch_rows.observe(sum(lengths))
        for trace in filter(None, (call.trace for call in calls)):
            trace.mark("compute", began, ended, **{"gatewave.batch.rows": sum(lengths)})
    return [outputs] if len(calls) == 1 else _parts(outputs, lengths)


def _parts(outputs: dict[str, Array], lengths: Sequence[int]) -> list[dict[str, Array]]:
    """``outputs`` divided by rows, ``lengths`` of them to each part.

    Raises:
        ModelFailed: An output has not a row for each.
    """
    for name, output in outputs.items():
        if not output.ndim or output.shape[0] != sum(lengths):
            msg = f"output {name} has shape {list(output.shape)} for {sum(lengths)} rows"
            raise ModelFailed(msg)
    ends = np.cumsum(lengths)[:-1]
    parts = {name: np.split(output, ends) for name, output in outputs.items()}
    return [{name: parts[name][i] for name in parts} for i in range(len(lengths))]


def _key(call: InferenceRequest) -> Key:
    shapes = tuple((name, tensor.shape[1:]) for name, tensor in sorted(call.inputs.items()))
    return call.model, shapes, tuple(call.outputs), tuple(sorted(call.scalars.items()))


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
