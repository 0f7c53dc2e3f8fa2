"""Requests that are computed together, and what each of them gets."""

import asyncio
import threading
import time

import numpy as np
import pytest

from service.errors import DeadlineExceeded, ModelFailed, Overloaded
from service.serving.batcher import Batcher
from service.serving.call import Call
from service.serving.lanes import Lanes
from service.serving.model import ANY, Batching, Model, Port


class Doubling(Model):
    """y = 2·x, row by row; it fails on a 13, and remembers the batches that it was given."""

    version = "1"
    platform = "test"
    inputs = (Port("x", "FP32", (ANY, ANY)),)
    outputs = (Port("y", "FP32", (ANY, ANY)),)
    reals = {}  # noqa: RUF012 - as the class has it
    trusted = False
    provider = "none"

    def __init__(self, name):
        self.name = name
        self.batching = Batching(4)
        self.batches = []
        self.gate = threading.Event()
        self.begun = threading.Event()

    def check(self, inputs):
        pass

    def output_bytes(self, inputs, outputs):  # noqa: ARG002
        return inputs["x"].nbytes

    def run(self, inputs, outputs, reals, halt=None):  # noqa: ARG002
        self.begun.set()
        assert self.gate.wait(30)
        self.batches.append(inputs["x"][:, 0].tolist())
        if 13 in inputs["x"]:
            raise ModelFailed("13 is bad luck")
        return {"y": inputs["x"] * 2}


def call(model, *rows, width=1, deadline=None):
    x = np.repeat(np.array(rows, np.float32)[:, None], width, 1)
    return Call(model, {"x": x}, ("y",), {}, deadline)


def run(calls, *, max_delay=0.0, name="doubling"):
    """The results of ``calls``, asked for while another is being computed, and the batches."""
    model = Doubling(name)

    async def work():
        lanes = Lanes(1, 8)
        batcher = Batcher(model, Batching(4, max_delay), lanes)
        first = asyncio.create_task(batcher.run(call(model, 0)))
        await asyncio.to_thread(model.begun.wait, 30)
        others = [asyncio.create_task(batcher.run(each)) for each in calls(model)]
        for _ in range(3):
            await asyncio.sleep(0)
        model.gate.set()
        results = await asyncio.gather(*others, return_exceptions=True)
        await first
        lanes.close()
        return results

    return asyncio.run(work()), model.batches


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


def test_who_has_gone_is_left_out():
    model = Doubling("left")

    async def work():
        lanes = Lanes(1, 8)
        batcher = Batcher(model, Batching(4), lanes)
        first = asyncio.create_task(batcher.run(call(model, 0)))
        await asyncio.to_thread(model.begun.wait, 30)
        gone, stays = (asyncio.create_task(batcher.run(call(model, n))) for n in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        model.gate.set()
        await asyncio.gather(first, stays)
        lanes.close()

    asyncio.run(work())
    assert model.batches == [[0], [2]]


def test_with_a_delay_a_request_waits_for_company():
    model = Doubling("patient")
    model.gate.set()

    async def work():
        lanes = Lanes(2, 8)
        batcher = Batcher(model, Batching(2, 30.0), lanes)
        first = asyncio.create_task(batcher.run(call(model, 1)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not first.done()
        results = await asyncio.gather(first, batcher.run(call(model, 2)))
        lanes.close()
        return results

    assert values(asyncio.run(work())) == [[2], [4]]
    assert model.batches == [[1, 2]]


@pytest.mark.parametrize("rows", [1, 3])
def test_batched_results_are_the_unbatched_ones(rows):
    results, _ = run(lambda model: [call(model, *range(n, n + rows)) for n in range(1, 4)])
    expected = [[2 * m for m in range(n, n + rows)] for n in range(1, 4)]
    assert values(results) == expected
