"""Threads that compute, and their queue."""

import asyncio
import threading
import time

import pytest

from gatewave.service.errors import DeadlineExceeded, Overloaded
from gatewave.service.observability.metrics import ABANDONED_LANES
from gatewave.service.serving.worker_pool import WorkerPool
from gatewave.service.system.cancellation import CancelToken


class Gate:
    """Work that signals its start, and ends when the gate is opened."""

    def __init__(self):
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.open.wait(30)
        return "done"


async def begun(gate):
    await asyncio.to_thread(gate.begun.wait, 30)


async def waiting(worker_pool, count):
    async with asyncio.timeout(30):
        while worker_pool.queue.length != count:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0)


def run(work):
    worker_pool = WorkerPool(1, 2)
    try:
        return asyncio.run(work(worker_pool))
    finally:
        worker_pool.close()


def test_work_is_done_in_another_thread():
    async def work(worker_pool):
        return await worker_pool.run(threading.get_ident)

    assert run(work) != threading.get_ident()


def test_an_error_of_the_work_reaches_its_caller_and_frees_the_lane():
    async def work(worker_pool):
        with pytest.raises(ZeroDivisionError):
            await worker_pool.run(lambda: 1 // 0)
        return await worker_pool.run(lambda: 7)

    assert run(work) == 7


def test_the_line_is_served_in_order_and_is_bounded():
    async def work(worker_pool):
        gate, order = Gate(), []
        first = asyncio.create_task(worker_pool.run(gate))
        await begun(gate)
        others = [
            asyncio.create_task(worker_pool.run(lambda n=n: order.append(n))) for n in range(2)
        ]
        await waiting(worker_pool, 2)
        with pytest.raises(Overloaded) as refused:
            await worker_pool.run(lambda: None)
        gate.open.set()
        assert await first == "done"
        await asyncio.gather(*others)
        assert refused.value.reason == "queue"
        return order

    assert run(work) == [0, 1]


def test_nothing_starts_after_its_deadline():
    async def work(worker_pool):
        gate, ran = Gate(), []
        first = asyncio.create_task(worker_pool.run(gate))
        await begun(gate)
        with pytest.raises(DeadlineExceeded):
            await worker_pool.run(
                lambda: ran.append("waited"), CancelToken(time.monotonic() + 0.01)
            )
        gate.open.set()
        await first
        with pytest.raises(DeadlineExceeded):
            await worker_pool.run(
                lambda: ran.append("came late"), CancelToken(time.monotonic() - 1)
            )
        assert await worker_pool.run(lambda: "the lane is free") == "the lane is free"
        return ran

    assert run(work) == []


def test_what_nobody_waits_for_never_starts():
    async def work(worker_pool):
        gate, ran = Gate(), []
        first = asyncio.create_task(worker_pool.run(gate))
        await begun(gate)
        second = asyncio.create_task(worker_pool.run(lambda: ran.append("ran")))
        await waiting(worker_pool, 1)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.open.set()
        await first
        await worker_pool.run(lambda: None)
        return ran

    assert run(work) == []


def test_what_is_running_keeps_its_lane_until_it_ends_and_is_told_to_halt():
    async def work(worker_pool):
        gate, token = Gate(), CancelToken()
        first = asyncio.create_task(worker_pool.run(gate, token=token))
        await begun(gate)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert token.is_cancelled
        second = asyncio.create_task(worker_pool.run(lambda: "second"))
        await waiting(worker_pool, 1)
        gate.open.set()
        return await second

    assert run(work) == "second"


class Model:
    """Owner of work."""

    def __init__(self, instances=0, *, trusted=False):
        self.instances = instances
        self.trusted = trusted


def play(work, *, count, longest=16, overtime=30.0):
    worker_pool = WorkerPool(count, longest, overtime)

    async def whole():
        async with asyncio.timeout(30):
            return await work(worker_pool)

    try:
        return asyncio.run(whole())
    finally:
        worker_pool.close()


@pytest.mark.parametrize(
    ("count", "model", "share"),
    [
        (4, Model(), 3),
        (4, Model(2), 2),
        (4, Model(9), 4),
        (4, Model(trusted=True), 4),
        (1, Model(), 1),
        (4, None, 4),
    ],
)
def test_a_model_has_its_share_of_the_lanes(count, model, share):
    async def work(worker_pool):
        gates = [Gate() for _ in range(6)]
        tasks = [asyncio.create_task(worker_pool.run(gate, owner=model)) for gate in gates]
        await waiting(worker_pool, 6 - share)
        for gate in gates[:share]:
            await begun(gate)
        assert not any(gate.begun.is_set() for gate in gates[share:])
        if share < count:
            assert await worker_pool.run(lambda: "other", owner=Model()) == "other"
        for gate in gates:
            gate.open.set()
        assert await asyncio.gather(*tasks) == ["done"] * 6

    play(work, count=count)


def test_models_take_turns():
    async def work(worker_pool):
        gate, order = Gate(), []
        first = asyncio.create_task(worker_pool.run(gate))
        await begun(gate)
        flood, drop = Model(), Model()
        asked = [flood] * 4 + [drop] * 2
        tasks = [
            asyncio.create_task(
                worker_pool.run(lambda n=n, o=o: order.append((n, o is flood)), owner=o)
            )
            for n, o in enumerate(asked)
        ]
        await waiting(worker_pool, 6)
        gate.open.set()
        await asyncio.gather(first, *tasks)
        return order

    turns = [(0, True), (4, False), (1, True), (5, False), (2, True), (3, True)]
    assert play(work, count=1) == turns


def test_a_run_is_told_to_halt_at_its_deadline():
    async def work(worker_pool):
        gate, token = Gate(), CancelToken(time.monotonic() + 0.05)
        with pytest.raises(DeadlineExceeded, match="its run was ended"):
            await worker_pool.run(gate, token, Model())
        assert token.is_cancelled
        gate.open.set()
        return await worker_pool.run(lambda: "next", owner=Model())

    assert play(work, count=1) == "next"


def test_a_run_of_a_trusted_model_is_finished():
    async def work(worker_pool):
        gate, deadline = Gate(), time.monotonic() + 0.05
        token = CancelToken(deadline)
        run = asyncio.create_task(worker_pool.run(gate, token, Model(trusted=True)))
        await begun(gate)
        await asyncio.sleep(deadline - time.monotonic())
        gate.open.set()
        return await run, token.is_cancelled

    assert play(work, count=1) == ("done", False)


def test_a_run_that_does_not_end_is_abandoned():
    """Another lane replaces its lane, but the run still counts for its model."""

    async def work(worker_pool):
        gate, model = Gate(), Model()
        with pytest.raises(DeadlineExceeded):
            await worker_pool.run(gate, CancelToken(time.monotonic() + 0.05), model)
        assert await worker_pool.run(lambda: "others", owner=Model()) == "others"
        assert ABANDONED_LANES._value.get() == before + 1  # noqa: SLF001
        with pytest.raises(DeadlineExceeded, match="before the request could start"):
            await worker_pool.run(lambda: "again", CancelToken(time.monotonic() + 0.05), model)
        assert not worker_pool.close(0)
        gate.open.set()

    before = ABANDONED_LANES._value.get()  # noqa: SLF001
    play(work, count=1, overtime=0.0)


def test_cancelled_reading_keeps_its_thread_until_it_ends():
    """Work without a model ends soon: the pool runs no more than its size meanwhile."""

    async def work(worker_pool):
        gate, other = Gate(), Gate()
        reading = asyncio.create_task(worker_pool.run_admitted(gate))
        await begun(gate)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        task = asyncio.create_task(worker_pool.run(other, owner=Model()))
        await waiting(worker_pool, 1)
        # Timers that are due run before a later callback: none has replaced the thread.
        await asyncio.sleep(0.01)
        assert not other.begun.is_set()
        gate.open.set()
        await begun(other)
        other.open.set()
        assert await task == "done"

    play(work, count=1, overtime=0.0)


def test_a_lane_is_whole_again_when_an_abandoned_run_ends():
    async def work(worker_pool):
        gate, model = Gate(), Model()
        with pytest.raises(DeadlineExceeded):
            await worker_pool.run(gate, CancelToken(time.monotonic() + 0.05), model)
        await worker_pool.run(lambda: None, owner=Model())
        gate.open.set()
        assert await worker_pool.run(lambda: "again", owner=model) == "again"
        gates = [Gate() for _ in range(2)]
        tasks = [asyncio.create_task(worker_pool.run(each)) for each in gates]
        await begun(gates[0])
        await waiting(worker_pool, 1)
        assert not gates[1].begun.is_set()
        for each in gates:
            each.open.set()
        await asyncio.gather(*tasks)

    play(work, count=1, overtime=0.0)


def test_a_leaving_caller_passes_on_its_turn():
    async def work(worker_pool):
        await worker_pool.acquire()
        second = asyncio.create_task(worker_pool.acquire())
        await asyncio.sleep(0)
        worker_pool.release()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        return await worker_pool.run(lambda: "free")

    assert play(work, count=1) == "free"
