"""Dynamic batching: requests to one model that fit together are computed in one run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from service.dtypes import Array
from service.engine import Halt
from service.errors import DeadlineExceeded, ModelFailed
from service.serving.call import Call
from service.serving.lanes import LATE, Lanes, is_late
from service.serving.model import Batching, Model

Key = tuple[Any, ...]
Outcome = dict[str, Array] | ModelFailed


class Waiting:
    """A call in the line, and the future that its caller awaits."""

    __slots__ = ("admitted", "call", "future", "rows")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.future: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()
        self.rows: int = next(iter(call.inputs.values())).shape[0]
        self.admitted = time.perf_counter()

    def settle(self, outcome: Outcome | Exception) -> None:
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Line(deque[Waiting]):
    """The calls of one key that wait, and whether they fill a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = asyncio.Event()


class Batcher:
    """Puts the calls to one model together.

    Calls fit together when the shapes of their tensors are equal after the first axis, and they
    want the same outputs with the same parameters. With a delay of 0 nothing waits for company: a
    batch is what has come while all lanes were busy.
    """

    def __init__(self, model: Model, batching: Batching, lanes: Lanes) -> None:
        self.model = model
        self.batching = batching
        self.lanes = lanes
        self._lines: dict[Key, Line] = {}
        self._dispatchers: set[asyncio.Task[None]] = set()

    async def run(self, call: Call) -> dict[str, Array]:
        """Compute ``call``, alone or in company.

        Raises:
            Overloaded: The line is full.
            DeadlineExceeded: Its turn did not come in time.
            ModelFailed: The graph could not be run on its own inputs.
        """
        self.lanes.admit(waiting=sum(map(len, self._lines.values())))
        waiting = Waiting(call)
        key = _key(call)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line()
            task = asyncio.create_task(self._dispatch(key))
            self._dispatchers.add(task)
            task.add_done_callback(self._dispatchers.discard)
        line.append(waiting)
        if _rows(line) >= self.batching.max_size:
            line.is_full.set()
        return await waiting.future

    async def _dispatch(self, key: Key) -> None:
        """Send off the line of ``key``, a batch for each lane that becomes free."""
        line = self._lines[key]
        while line:
            await self._await_company(line)
            await self.lanes.turn()
            batch = self._taken(line)
            if batch:
                self._compute(batch)
            else:
                self.lanes.leave()
        del self._lines[key]

    async def _await_company(self, line: Line) -> None:
        if not self.batching.max_delay:
            return
        left = line[0].admitted + self.batching.max_delay - time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, left)):
                await line.is_full.wait()

    def _taken(self, line: Line) -> list[Waiting]:
        """The first in line, as many as one run takes; who is late or gone is left out."""
        batch: list[Waiting] = []
        while line and (not batch or _rows(batch) + line[0].rows <= self.batching.max_size):
            waiting = line.popleft()
            if is_late(waiting.call.deadline):
                waiting.settle(DeadlineExceeded(LATE))
            elif not waiting.future.done():
                batch.append(waiting)
        if _rows(line) < self.batching.max_size:
            line.is_full.clear()
        return batch

    def _compute(self, batch: list[Waiting]) -> None:
        halt = Halt()

        def settle(done: asyncio.Future[list[Outcome]]) -> None:
            error = done.exception()
            outcomes = [error] * len(batch) if isinstance(error, Exception) else done.result()
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.settle(outcome)

        def perhaps_halt(_: object) -> None:
            if all(waiting.future.cancelled() for waiting in batch):
                halt.now()

        for waiting in batch:
            waiting.future.add_done_callback(perhaps_halt)
        self.lanes.start(lambda: self._outcomes(batch, halt)).add_done_callback(settle)

    def _outcomes(self, batch: list[Waiting], halt: Halt) -> list[Outcome]:
        began = time.perf_counter()
        for waiting in batch:
            self.model.meter.queue.observe(began - waiting.admitted)
            if waiting.call.trace is not None:
                waiting.call.trace.mark("queue", waiting.admitted, began)
        try:
            return list(self._together([waiting.call for waiting in batch], halt))
        except ModelFailed as error:
            if len(batch) == 1:
                return [error]
        # One of them may be to blame for all: each alone, so that it fails alone.
        return [self._alone(waiting.call, halt) for waiting in batch]

    def _alone(self, call: Call, halt: Halt) -> Outcome:
        try:
            return self._together([call], halt)[0]
        except ModelFailed as error:
            return error

    def _together(self, calls: Sequence[Call], halt: Halt) -> list[dict[str, Array]]:
        """The outputs of each call, all computed in one run of the model."""
        first = calls[0]
        lengths = [next(iter(call.inputs.values())).shape[0] for call in calls]
        inputs = {name: _joined([call.inputs[name] for call in calls]) for name in first.inputs}
        began = time.perf_counter()
        try:
            outputs = self.model.run(inputs, first.outputs, first.reals, halt)
        finally:
            ended = time.perf_counter()
            self.model.meter.compute.observe(ended - began)
            self.model.meter.batch_rows.observe(sum(lengths))
            for trace in filter(None, (call.trace for call in calls)):
                trace.mark("compute", began, ended, **{"gatewave.batch.rows": sum(lengths)})
        if len(calls) == 1:
            return [outputs]
        for name, output in outputs.items():
            if not output.ndim or output.shape[0] != sum(lengths):
                msg = f"output {name} has shape {list(output.shape)} for {sum(lengths)} rows"
                raise ModelFailed(msg)
        ends = np.cumsum(lengths)[:-1]
        parts = {name: np.split(output, ends) for name, output in outputs.items()}
        return [{name: parts[name][i] for name in parts} for i in range(len(calls))]


def _key(call: Call) -> Key:
    shapes = tuple((name, tensor.shape[1:]) for name, tensor in sorted(call.inputs.items()))
    return shapes, tuple(call.outputs), tuple(sorted(call.reals.items()))


def _rows(calls: Iterable[Waiting]) -> int:
    return sum(waiting.rows for waiting in calls)


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
