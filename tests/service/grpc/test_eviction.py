"""Calls without a message, or without an end, do not block other calls."""

import asyncio
import contextlib
import threading

import grpc
import numpy as np
import pytest
from calls import Client, serving_rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import eventually

from gatewave.service.errors import Overloaded
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc.admission import CONTROL_SLOTS, MAX_CONTROL_BYTES, WATCH_SLOTS
from gatewave.service.grpc.paths import HEALTH, SERVICE
from gatewave.service.grpc.slots import SlotPool
from gatewave.service.security.keys import new_key


def sinc():
    x = np.array([0.5], np.float32)
    request = pb.ModelInferRequest(model_name="sinc", raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


@pytest.fixture(scope="module")
def key_and_hash():
    return new_key("infer")


@pytest.fixture(scope="module")
def guarded(rpc_settings, key_and_hash):
    """Service with a key and two slots for inference messages."""
    few = {"max_memory_bytes": 2 * rpc_settings.max_body_bytes, "body_seconds": 20}
    settings = rpc_settings.model_copy(update={**few, "keys": key_and_hash[1]})
    with serving_rpc(settings) as served:
        yield served


@pytest.fixture
def key(key_and_hash):
    return [("authorization", f"Bearer {key_and_hash[0]}")]


@contextlib.contextmanager
def silent(channel, path, count):
    """Open ``count`` calls without a key and without a message."""
    over = threading.Event()

    def nothing():
        over.wait(60)
        yield from ()

    call = channel.stream_unary(path)
    calls = [call.future(nothing(), timeout=60) for _ in range(count)]
    try:
        yield calls
    finally:
        for each in calls:
            each.cancel()
        over.set()


@contextlib.contextmanager
def watched(channel, count):
    """Open ``count`` health watches."""
    stub = health_pb2_grpc.HealthStub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(count)]
    try:
        yield watches
    finally:
        for each in watches:
            each.cancel()


PUBLIC = {f"/{SERVICE.full_name}/ServerLive": 20, f"/{HEALTH.full_name}/Check": 100}
"""Paths that need no key, and the number of silent calls that once blocked other calls."""


@pytest.mark.parametrize(("path", "count"), PUBLIC.items())
def test_silent_calls_without_a_key_block_no_call(guarded, key, path, count):
    with (
        silent(guarded.channel, path, count),
        grpc.insecure_channel(f"127.0.0.1:{guarded.server.port}") as other,
    ):
        client = Client(other)
        metadata = pb.ModelMetadataRequest(name="sinc")
        assert client.ModelMetadata(metadata, metadata=key, timeout=10).name == "sinc"
        assert client.ModelInfer(sinc(), metadata=key, timeout=10).raw_output_contents
        health = health_pb2_grpc.HealthStub(other)

        def are_answered():
            with contextlib.suppress(grpc.RpcError):
                live = client.ServerLive(pb.ServerLiveRequest(), timeout=10).live
                return live and health.Check(health_pb2.HealthCheckRequest(), timeout=10).status

        eventually(are_answered)


def test_silent_control_calls_do_not_block_inference(guarded, key):
    call = guarded.channel.stream_unary(f"/{SERVICE.full_name}/ModelReady")
    over = threading.Event()
    calls = [
        call.future(iter(over.wait, True), metadata=key, timeout=60) for _ in range(CONTROL_SLOTS)
    ]
    assert guarded.client.ModelInfer(sinc(), metadata=key, timeout=10).raw_output_contents
    for each in calls:
        each.cancel()
    over.set()


def test_watchers_block_neither_calls_nor_watchers(guarded, key):
    with watched(guarded.channel, 3 * WATCH_SLOTS) as watches:
        for each in watches[:WATCH_SLOTS]:
            next(each)
        infer = guarded.client.ModelInfer
        assert infer(sinc(), metadata=key, timeout=10).raw_output_contents
        with watched(guarded.channel, 1) as (late,):
            refused_or_told = contextlib.suppress(grpc.RpcError)
            with refused_or_told:
                next(late)
    stub = health_pb2_grpc.HealthStub(guarded.channel)
    again = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(again).status == health_pb2.HealthCheckResponse.SERVING
    again.cancel()


def test_a_long_control_message_is_rejected(guarded, key):
    request = pb.ModelMetadataRequest(name="x" * MAX_CONTROL_BYTES)
    with pytest.raises(grpc.RpcError) as caught:
        guarded.client.ModelMetadata(request, metadata=key, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_idle_stream_is_evicted_for_another(rpc_settings):
    few = {"max_memory_bytes": rpc_settings.max_body_bytes, "body_seconds": 0.01}
    with serving_rpc(rpc_settings.model_copy(update=few)) as served:
        over = threading.Event()

        def one_and_wait():
            yield sinc()
            over.wait(60)

        idle = served.client.ModelStreamInfer(one_and_wait(), timeout=60)
        next(idle)

        def is_answered():
            with contextlib.suppress(grpc.RpcError):
                return list(served.client.ModelStreamInfer(iter([sinc()]), timeout=10))

        eventually(is_answered)
        with pytest.raises(grpc.RpcError) as caught:
            next(idle)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "idle" in caught.value.details()
        over.set()


async def holding(pool, entered):
    async with pool.idle_slot("ipv4:10.0.0.1:1"):
        entered.set()
        await asyncio.Event().wait()


async def came(pool):
    entered = asyncio.Event()
    task = asyncio.create_task(holding(pool, entered))
    await entered.wait()
    return task


def test_the_longest_idle_call_is_evicted_first():
    async def run():
        pool = SlotPool(size=2, queue_size=1, idle_timeout=60)
        oldest, newer = await came(pool), await came(pool)
        waiting = asyncio.create_task(came(pool))
        await asyncio.sleep(0)  # The task starts, and then waits in the queue, which is full.
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 calls"):
            await holding(pool, asyncio.Event())
        newest = await waiting
        with pytest.raises(TimeoutError):
            await oldest
        for task in (newer, newest):
            assert not task.done()
            task.cancel()
        await asyncio.gather(newer, newest, return_exceptions=True)
        for task in (await came(pool), await came(pool)):
            task.cancel()

    asyncio.run(run())


def test_an_idle_call_ends_at_its_timeout():
    async def run():
        with pytest.raises(TimeoutError):
            await holding(SlotPool(size=1, queue_size=0, idle_timeout=0.01), asyncio.Event())

    asyncio.run(run())
