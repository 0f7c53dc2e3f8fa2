"""Threads that compute, and the line before them."""

import asyncio
import threading
import time

import pytest

from service.engine import Halt
from service.errors import DeadlineExceeded, Overloaded
from service.serving.lanes import Lanes


class Gate:
    """Work that says when it has begun, and ends when it may."""

    def __init__(self):
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.open.wait(30)
        return "done"


async def begun(gate):
    await asyncio.to_thread(gate.begun.wait, 30)


async def waiting(lanes, count):
    async with asyncio.timeout(30):
        while lanes.waiting != count:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0)


def run(work):
    lanes = Lanes(1, 2)
    try:
        return asyncio.run(work(lanes))
    finally:
        lanes.close()


def test_work_is_done_in_another_thread():
    async def work(lanes):
        return await lanes.run(threading.get_ident)

    assert run(work) != threading.get_ident()


def test_an_error_of_the_work_reaches_its_caller_and_frees_the_lane():
    async def work(lanes):
        with pytest.raises(ZeroDivisionError):
            await lanes.run(lambda: 1 // 0)
        return await lanes.run(lambda: 7)

    assert run(work) == 7


def test_the_line_is_served_in_order_and_is_bounded():
    async def work(lanes):
        gate, order = Gate(), []
        first = asyncio.create_task(lanes.run(gate))
        await begun(gate)
        others = [asyncio.create_task(lanes.run(lambda n=n: order.append(n))) for n in range(2)]
        await waiting(lanes, 2)
        with pytest.raises(Overloaded) as refused:
            await lanes.run(lambda: None)
        gate.open.set()
        assert await first == "done"
        await asyncio.gather(*others)
        assert refused.value.reason == "queue"
        return order

    assert run(work) == [0, 1]


def test_nothing_starts_after_its_deadline():
    async def work(lanes):
        gate, ran = Gate(), []
        first = asyncio.create_task(lanes.run(gate))
        await begun(gate)
        with pytest.raises(DeadlineExceeded):
            await lanes.run(lambda: ran.append("waited"), time.monotonic() + 0.01)
        gate.open.set()
        await first
        with pytest.raises(DeadlineExceeded):
            await lanes.run(lambda: ran.append("came late"), time.monotonic() - 1)
        assert await lanes.run(lambda: "the lane is free") == "the lane is free"
        return ran

    assert run(work) == []


def test_what_nobody_waits_for_never_starts():
    async def work(lanes):
        gate, ran = Gate(), []
        first = asyncio.create_task(lanes.run(gate))
        await begun(gate)
        second = asyncio.create_task(lanes.run(lambda: ran.append("ran")))
        await waiting(lanes, 1)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.open.set()
        await first
        await lanes.run(lambda: None)
        return ran

    assert run(work) == []


def test_what_is_running_keeps_its_lane_until_it_ends_and_is_told_to_halt():
    async def work(lanes):
        gate, halt = Gate(), Halt()
        first = asyncio.create_task(lanes.run(gate, halt=halt))
        await begun(gate)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert halt.options.terminate
        second = asyncio.create_task(lanes.run(lambda: "second"))
        await waiting(lanes, 1)
        gate.open.set()
        return await second

    assert run(work) == "second"
