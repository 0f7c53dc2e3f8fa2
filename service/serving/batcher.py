"""Dynamic batching: requests to one model that fit together are computed in one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import (
    DeadlineExceeded,
    LimitExceeded,
    ModelFailed,
    ModelNotReady,
    Overloaded,
)
from gatewave.service.serving.batch_queue import BatchQueue, Outcome, PendingRequest
from gatewave.service.serving.model import Batching
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.sizes import check_results
from gatewave.service.serving.worker_pool import LATE, WorkerPool, is_late
from gatewave.service.system.cancellation import CancelToken

Key = tuple[Any, ...]

FAILURES = (LimitExceeded, ModelFailed, ModelNotReady, Overloaded)
"""Errors of a run that one of its requests may have caused. `LimitExceeded` is one of them: an
isolated process compares the results of the whole batch with the limit of one request."""
GONE = ModelFailed("no caller waits for it")


class Batcher:
    """Combines requests into batches.

    Requests fit together when they are to one model, the shapes of their tensors are equal after
    the first axis, and they want the same outputs with the same parameters. With a delay of 0 no
    request waits for others: a batch is what has come while all threads were busy.

    Empty queues are dropped, which frees models that were replaced.
    """

    def __init__(self, worker_pool: WorkerPool, output_bytes: int) -> None:
        self.worker_pool = worker_pool
        self.output_bytes = output_bytes
        self._queues: dict[Key, BatchQueue] = {}
        # The event loop itself keeps only weak references to tasks.
        self._dispatchers: set[asyncio.Task[None]] = set()

    async def run(self, request: InferenceRequest, batching: Batching) -> dict[str, Array]:
        """Compute ``request``, alone or with others, as its model's ``batching`` says.

        Raises:
            Overloaded: The queue is full, or there is no memory for it now.
            DeadlineExceeded: Its turn did not come in time, or its run did not end in time.
            LimitExceeded: Its outputs are too large.
            ModelFailed: The graph could not be run on its own inputs.
        """
        slot = self.worker_pool.queue.reserve(request.model)
        queue = self._queue(_key(request), batching)
        pending = queue.add(request, slot)
        try:
            return await pending.future
        finally:
            queue.remove(pending)
            # An error's traceback holds this frame, and the future holds the error: a cycle.
            del pending

    def _queue(self, key: Key, batching: Batching) -> BatchQueue:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = BatchQueue(batching)
            task = asyncio.create_task(self._dispatch(key))
            self._dispatchers.add(task)
            task.add_done_callback(self._dispatchers.discard)
        return queue

    async def _dispatch(self, key: Key) -> None:
        """Send off the requests of ``key``, a batch for each thread that becomes free."""
        queue, model = self._queues[key], key[0]
        while queue:
            await queue.ready.wait()
            # The batch is chosen after the thread was acquired: until then, requests may join it.
            await self.worker_pool.acquire(model)
            batch = queue.next_batch()
            if batch:
                self._compute(batch)
            else:
                self.worker_pool.release(model)
        # No `await` since the queue was found empty, so no request can have been added to it.
        del self._queues[key]

    def _compute(self, batch: list[PendingRequest]) -> None:
        token = CancelToken()

        def settle(done: asyncio.Future[list[Outcome]]) -> None:
            error = done.exception()
            outcomes = [error] * len(batch) if error is not None else done.result()
            for pending, outcome in zip(batch, outcomes, strict=True):
                pending.settle(outcome)

        model = batch[0].request.model
        run = self.worker_pool.start(lambda: self._outcomes(batch, token), owner=model)

        def perhaps_cancel(pending: PendingRequest, _: object) -> None:
            if pending.token is not None:
                pending.token.cancel()
            # The run of a batch goes on as long as one of its callers waits.
            if all(other.future.done() for other in batch) and not run.done():
                token.cancel()
                self.worker_pool.abandon_later(run)

        for pending in batch:
            pending.fail_at_deadline()
            pending.future.add_done_callback(partial(perhaps_cancel, pending))
        run.add_done_callback(settle)

    def _outcomes(self, batch: list[PendingRequest], token: CancelToken) -> list[Outcome]:
        began = time.perf_counter()
        for pending in batch:
            request = pending.request
            request.model.meter.queue.observe(began - pending.queued_at)
            if request.trace is not None:
                request.trace.mark("queue", pending.queued_at, began)
        try:
            results = _run_together([pending.request for pending in batch], token)
        except FAILURES as error:
            if len(batch) == 1:
                return [error]
            # One request may have caused the failure: each is computed alone, and fails alone.
            return [self._run_alone(pending) for pending in batch]
        return [self._within_limit(result) for result in results]

    def _run_alone(self, pending: PendingRequest) -> Outcome:
        """Return the outcome of a request whose batch failed."""
        # The token is set before the future is read, and `perhaps_cancel` reads the token after the
        # future was settled. So a caller that leaves now is seen here, or the run is cancelled.
        token = pending.token = CancelToken()
        if pending.future.done():
            return GONE
        if is_late(pending.request.deadline):
            return DeadlineExceeded(LATE)
        try:
            return self._within_limit(_run_together([pending.request], token)[0])
        except FAILURES as error:
            return error

    def _within_limit(self, result: dict[str, Array]) -> Outcome:
        try:
            check_results(result, self.output_bytes)
        except LimitExceeded as error:
            return error
        return result


def _run_together(
    requests: Sequence[InferenceRequest], token: CancelToken
) -> list[dict[str, Array]]:
    """Return the outputs of each request, all computed in one run of the model."""
    first = requests[0]
    lengths = [next(iter(request.inputs.values())).shape[0] for request in requests]
    inputs = {
        name: _concatenated([request.inputs[name] for request in requests]) for name in first.inputs
    }
    began = time.perf_counter()
    try:
        outputs = first.model.run(inputs, first.outputs, first.scalars, token)
    finally:
        ended = time.perf_counter()
        first.model.meter.compute.observe(ended - began)
        first.model.meter.batch_rows.observe(sum(lengths))
        for trace in filter(None, (request.trace for request in requests)):
            trace.mark("compute", began, ended, **{"gatewave.batch.rows": sum(lengths)})
    return [outputs] if len(requests) == 1 else _split(outputs, lengths)


def _split(outputs: dict[str, Array], lengths: Sequence[int]) -> list[dict[str, Array]]:
    """Return ``outputs`` divided by rows, ``lengths`` of them to each part.

    Raises:
        ModelFailed: An output has another number of rows.
    """
    for name, output in outputs.items():
        if not output.ndim or output.shape[0] != sum(lengths):
            msg = f"output {name} has shape {list(output.shape)} for {sum(lengths)} rows"
            raise ModelFailed(msg)
    ends = np.cumsum(lengths)[:-1]
    parts = {name: np.split(output, ends) for name, output in outputs.items()}
    return [{name: parts[name][i] for name in parts} for i in range(len(lengths))]


def _key(request: InferenceRequest) -> Key:
    shapes = tuple((name, tensor.shape[1:]) for name, tensor in sorted(request.inputs.items()))
    scalars = tuple(sorted(request.scalars.items()))
    return request.model, shapes, tuple(request.outputs), scalars


def _concatenated(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
