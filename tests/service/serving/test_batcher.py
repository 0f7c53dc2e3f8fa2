"""Requests that are computed together, and their results."""

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from gatewave.service.errors import (
    DeadlineExceeded,
    LimitExceeded,
    ModelFailed,
    ModelNotReady,
    Overloaded,
)
from gatewave.service.serving.batch_queue import BatchQueue
from gatewave.service.serving.batcher import Batcher
from gatewave.service.serving.model import ANY, Batching, Model, Port
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.worker_pool import UNFINISHED, WorkerPool

FOUR = Batching(4)
TOO_LARGE = "outputs: expected outputs of at most 24 bytes, got 28"


class Doubling(Model):
    """Model of y = 2·x, row by row; it fails on a 13, and records its batches.

    Its runs wait until the gate opens, and then call `hold` with their input.
    """

    version = "1"
    platform = "test"
    inputs = (Port("x", "FP32", (ANY, ANY)),)
    outputs = (Port("y", "FP32", (ANY, ANY)),)
    scalars = {}  # noqa: RUF012 - as the class has it
    trusted = False
    provider = "none"

    def __init__(self, name, batching=FOUR):
        self.name = name
        self.batching = batching
        self.batches = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.hold = None

    def check(self, inputs):
        pass

    def output_bytes(self, inputs, outputs):  # noqa: ARG002
        return inputs["x"].nbytes

    def run(self, inputs, outputs, scalars, token=None):  # noqa: ARG002
        self.begun.set()
        assert self.gate.wait(30)
        self.batches.append(inputs["x"][:, 0].tolist())
        if self.hold is not None:
            self.hold(inputs["x"])
        if 13 in inputs["x"]:
            raise ModelFailed("13 is bad luck")
        return {"y": inputs["x"] * 2}


def call(model, *rows, width=1, deadline=None):
    x = np.repeat(np.array(rows, np.float32)[:, None], width, 1)
    return InferenceRequest(model, {"x": x}, ("y",), {}, deadline)


class Scene:
    """Batcher with one lane, and a model that is busy with a run of the scene's own."""

    def __init__(self, model, worker_pool):
        self.model = model
        self.worker_pool = worker_pool
        self.batcher = Batcher(worker_pool, output_bytes=24)

    def ask(self, asked):
        return asyncio.create_task(self.batcher.run(asked, asked.model.batching))

    async def asked(self, *calls):
        """Start tasks, and return them when their requests wait."""
        tasks = [self.ask(call) for call in calls]
        await asyncio.sleep(0)
        return tasks


def play(scenario, model, *, count=1, longest=8):
    """Return the result of ``scenario``, which begins with all lanes busy and the gate shut."""

    async def work():
        worker_pool = WorkerPool(count, longest)
        scene = Scene(model, worker_pool)
        first = scene.ask(call(model, 0))
        await asyncio.to_thread(model.begun.wait, 30)
        try:
            return await scenario(scene)
        finally:
            model.gate.set()
            await first
            worker_pool.close()

    return asyncio.run(work())


def run(calls, *, name="doubling"):
    """Return the results of ``calls``, requested during another run, and the batches."""
    model = Doubling(name)

    async def scenario(scene):
        tasks = await scene.asked(*calls(model))
        model.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return play(scenario, model), model.batches


def values(results):
    return [each["y"][:, 0].tolist() for each in results]


def test_what_waits_is_computed_together_up_to_the_largest_batch():
    results, batches = run(lambda model: [call(model, n) for n in range(1, 7)])
    assert values(results) == [[2 * n] for n in range(1, 7)]
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_each_gets_its_own_rows():
    results, batches = run(lambda model: [call(model, 1, 2), call(model, 3), call(model, 4, 5)])
    assert values(results) == [[2, 4], [6], [8, 10]]
    assert batches == [[0], [1, 2, 3], [4, 5]]


def test_more_rows_than_a_batch_has_go_alone():
    results, batches = run(lambda model: [call(model, *range(1, 7)), call(model, 9)])
    assert values(results) == [[2, 4, 6, 8, 10, 12], [18]]
    assert batches == [[0], [1, 2, 3, 4, 5, 6], [9]]


def test_results_are_too_large_each_by_itself():
    results, batches = run(lambda model: [call(model, *range(7)), call(model, 1, width=7)])
    assert [str(result) for result in results] == [TOO_LARGE, TOO_LARGE]
    results, batches = run(lambda model: [call(model, n, width=5) for n in (1, 2)])
    assert values(results) == [[2], [4]]
    assert batches[1:] == [[1, 2]]


def test_only_equal_trailing_shapes_go_together():
    results, batches = run(lambda model: [call(model, 1), call(model, 2, width=2), call(model, 3)])
    assert values(results) == [[2], [4], [6]]
    assert sorted(batches) == [[0], [1, 3], [2]]


def test_a_poisoned_request_fails_alone():
    results, batches = run(lambda model: [call(model, 1), call(model, 13), call(model, 3)])
    assert results[0]["y"].tolist() == [[2]]
    assert isinstance(results[1], ModelFailed)
    assert results[2]["y"].tolist() == [[6]]
    assert batches == [[0], [1, 13, 3], [1], [13], [3]]


def test_who_is_late_is_left_out():
    late = time.monotonic() - 1
    results, batches = run(lambda model: [call(model, 1, deadline=late), call(model, 2)])
    assert isinstance(results[0], DeadlineExceeded)
    assert results[1]["y"].tolist() == [[4]]
    assert batches == [[0], [2]]


def test_the_line_is_bounded():
    results, _ = run(lambda model: [call(model, n) for n in range(1, 10)])
    assert [isinstance(each, Overloaded) for each in results] == [False] * 8 + [True]


async def gone(task):
    task.cancel()
    await asyncio.wait([task])


def test_who_has_gone_is_left_out():
    model = Doubling("left")

    async def scenario(scene):
        leaves, stays = await scene.asked(call(model, 1), call(model, 2))
        await gone(leaves)
        model.gate.set()
        await stays

    play(scenario, model)
    assert model.batches == [[0], [2]]


def test_who_has_gone_keeps_neither_memory_nor_place_though_no_lane_is_free():
    model = Doubling("let go")

    async def scenario(scene):
        leaving = call(model, 1)
        held = weakref.ref(leaving.inputs["x"])
        leaves, stays = await scene.asked(leaving, call(model, 2))
        del leaving
        assert scene.worker_pool.queue.length == 2
        await gone(leaves)
        del leaves
        gc.collect()
        assert held() is None
        assert scene.worker_pool.queue.length == 1
        model.gate.set()
        await stays
        assert scene.worker_pool.queue.length == 0

    play(scenario, model)


def test_rows_of_who_has_gone_fill_no_batch():
    model = Doubling("not full")

    async def work():
        worker_pool, queue = WorkerPool(1, 8), BatchQueue(Batching(2, 30.0))
        first, _ = (queue.add(call(model, n), worker_pool.queue.reserve()) for n in (1, 2))
        assert queue.ready.is_set()
        queue.remove(first)
        assert not queue.ready.is_set()
        queue.add(call(model, 3), worker_pool.queue.reserve())
        assert [pending.rows for pending in queue.next_batch()] == [1, 1]
        assert worker_pool.queue.length == 0
        worker_pool.close()

    asyncio.run(work())


def test_the_line_is_one_for_all_models():
    one, other = Doubling("one"), Doubling("other")

    async def scenario(scene):
        tasks = await scene.asked(*(call(m, n) for n in range(4) for m in (one, other)))
        with pytest.raises(Overloaded):
            await scene.ask(call(other, 4))
        one.gate.set()
        other.gate.set()
        await asyncio.gather(*tasks)

    play(scenario, one)
    assert one.batches == [[0], [0, 1, 2, 3]]


def test_a_flood_for_one_model_leaves_places_to_others():
    """The model with most of the queue loses its latest request; between equals, the newcomer."""
    flooded, other = Doubling("flooded"), Doubling("dry")
    other.gate.set()

    async def scenario(scene):
        flood = await scene.asked(*(call(flooded, n) for n in range(1, 9)))
        others = await scene.asked(*(call(other, n) for n in range(1, 6)))
        assert scene.worker_pool.queue.length == 8
        flooded.gate.set()
        results = await asyncio.gather(*flood, *others, return_exceptions=True)
        return [isinstance(result, Overloaded) for result in results]

    refused = play(scenario, flooded)
    assert refused == [False] * 4 + [True] * 4 + [False] * 4 + [True]


class Endless(Doubling):
    """Run that ends when it is halted."""

    def run(self, inputs, outputs, scalars, token=None):  # noqa: ARG002
        self.begun.set()
        until = time.monotonic() + 30
        while not token.is_cancelled and time.monotonic() < until:
            time.sleep(0.001)
        self.batches.append((inputs["x"][:, 0].tolist(), token.is_cancelled))
        raise ModelFailed("it was ended")


def test_a_deadline_ends_a_run_when_all_in_it_are_late():
    model, other = Endless("endless"), Doubling("after")
    other.gate.set()

    async def work():
        worker_pool = WorkerPool(1, 8)
        scene = Scene(model, worker_pool)
        first = await scene.asked(*(call(model, n, deadline=soon()) for n in (1, 2)))
        late = await asyncio.gather(*first, return_exceptions=True)
        after = await scene.ask(call(other, 3))
        worker_pool.close()
        return late, after

    late, after = asyncio.run(work())
    assert [str(error) for error in late] == [UNFINISHED] * 2
    assert after["y"].tolist() == [[6]]
    assert model.batches == [([1, 2], True)]


def test_a_run_continues_for_callers_with_time_left():
    model = Doubling("some late")

    async def scenario(scene):
        late, stays = await scene.asked(call(model, 1, deadline=soon() + 0.2), call(model, 2))
        model.begun.clear()
        gate, model.gate = model.gate, threading.Event()
        gate.set()
        await asyncio.to_thread(model.begun.wait, 30)
        with pytest.raises(DeadlineExceeded, match="its run was ended"):
            await late
        model.gate.set()
        return await stays

    assert values([play(scenario, model)]) == [[4]]
    assert model.batches == [[0], [1, 2]]


def test_a_model_that_nobody_waits_for_is_not_kept():
    model = Doubling("kept by nobody")
    model.gate.set()

    async def work():
        nonlocal model
        scene = Scene(None, WorkerPool(1, 8))
        await scene.ask(call(model, 1))
        await asyncio.sleep(0)
        kept = weakref.ref(model)
        del model
        gc.collect()
        scene.worker_pool.close()
        return kept()

    assert asyncio.run(work()) is None


def soon():
    return time.monotonic() + 0.05


def test_a_missed_deadline_is_told_though_no_lane_is_free():
    model = Doubling("told")

    async def scenario(scene):
        late, stays = await scene.asked(call(model, 1, deadline=soon()), call(model, 2))
        async with asyncio.timeout(10):
            with pytest.raises(DeadlineExceeded):
                await late
        assert scene.worker_pool.queue.length == 1
        model.gate.set()
        await stays

    play(scenario, model)
    assert model.batches == [[0], [2]]


def test_who_has_no_time_to_wait_for_company_is_computed_in_time():
    model = Doubling("in time", Batching(4, 30.0))
    model.gate.set()

    async def work():
        worker_pool = WorkerPool(1, 8)
        scene = Scene(model, worker_pool)
        patient = await scene.asked(call(model, 1, deadline=time.monotonic() + 30))
        hasty = await scene.asked(call(model, 2, deadline=time.monotonic() + 1))
        async with asyncio.timeout(10):
            results = await asyncio.gather(*patient, *hasty)
        worker_pool.close()
        return results

    assert values(asyncio.run(work())) == [[2], [4]]
    assert model.batches == [[1, 2]]


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("memory", "others hold it"),
        LimitExceeded.at("outputs", "outputs of at most 24 bytes", 28),
        ModelNotReady("its process was ended"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_call_that_fails_in_a_batch_may_succeed_alone(error):
    model = Doubling("large")

    def hold(x):
        if len(x) > 1 or 7 in x:
            raise error

    async def scenario(scene):
        model.hold = hold
        tasks = await scene.asked(call(model, 1), call(model, 7))
        model.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    small, large = play(scenario, model)
    assert values([small]) == [[2]]
    assert large is error
    assert model.batches == [[0], [1, 7], [1], [7]]


def test_after_a_batch_that_failed_nobody_is_computed_too_late_or_for_nobody():
    model = Doubling("after 13")
    in_company = threading.Event()
    go_on = threading.Event()

    def hold(x):
        if len(x) > 1:
            in_company.set()
            assert go_on.wait(30)

    async def scenario(scene):
        model.hold = hold
        deadline = time.monotonic() + 0.2
        late, leaves, bad, stays = await scene.asked(
            call(model, 1, deadline=deadline), call(model, 2), call(model, 13), call(model, 3)
        )
        model.gate.set()
        await asyncio.to_thread(in_company.wait, 30)
        await gone(leaves)
        await asyncio.sleep(deadline - time.monotonic())
        go_on.set()
        with pytest.raises(DeadlineExceeded):
            await late
        with pytest.raises(ModelFailed):
            await bad
        return await stays

    assert values([play(scenario, model)]) == [[6]]
    assert model.batches == [[0], [1, 2, 13, 3], [13], [3]]


def test_with_a_delay_a_request_waits_for_company():
    model = Doubling("patient", Batching(2, 30.0))
    model.gate.set()

    async def work():
        worker_pool = WorkerPool(2, 8)
        scene = Scene(model, worker_pool)
        (first,) = await scene.asked(call(model, 1))
        await asyncio.sleep(0)
        assert not first.done()
        results = await asyncio.gather(first, scene.ask(call(model, 2)))
        worker_pool.close()
        return results

    assert values(asyncio.run(work())) == [[2], [4]]
    assert model.batches == [[1, 2]]


def test_a_delay_ends_without_company_too():
    model = Doubling("lonely", Batching(2, 0.01))
    model.gate.set()

    async def work():
        worker_pool = WorkerPool(1, 8)
        async with asyncio.timeout(10):
            result = await Scene(model, worker_pool).ask(call(model, 1))
        worker_pool.close()
        return result

    assert values([asyncio.run(work())]) == [[2]]


@pytest.mark.parametrize(("rows", "together"), [(1, 4), (2, 2), (3, 1)])
def test_batched_results_are_the_unbatched_ones(rows, together):
    results, batches = run(lambda model: [call(model, *range(n, n + rows)) for n in range(1, 5)])
    expected = [[2 * m for m in range(n, n + rows)] for n in range(1, 5)]
    assert values(results) == expected
    assert [len(batch) for batch in batches[1:]] == [rows * together] * (4 // together)
