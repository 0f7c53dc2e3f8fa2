"""Calls of one caller, of any number and kind, leave slots for other callers."""

import asyncio
import contextlib
import random
import socket
import struct
import threading

import grpc
import http2
import numpy as np
import pytest
from calls import Client, serving_rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from waiting import eventually

from gatewave.service.errors import Overloaded
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc.paths import HEALTH, REFLECTION, SERVICE
from gatewave.service.grpc.slots import EvictionDelays, SlotPool

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
INFER = f"/{SERVICE.full_name}/ModelInfer"
STREAM = f"/{SERVICE.full_name}/ModelStreamInfer"
REFLECT = f"/{REFLECTION.full_name}/ServerReflectionInfo"
LONG = 300.0
"""Seconds longer than any test. A slot that is lost sooner is lost to another caller."""


def sinc():
    x = np.array([0.5], np.float32)
    request = pb.ModelInferRequest(model_name="sinc", raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


@pytest.fixture(scope="module")
def two_slots(rpc_settings):
    """Service with two slots for messages and streams, and long timeouts."""
    few = {"max_memory_bytes": 2 * rpc_settings.max_body_bytes, "body_seconds": LONG}
    with serving_rpc(rpc_settings.model_copy(update=few)) as served:
        yield served


@contextlib.contextmanager
def callers(port, count):
    """Open ``count`` channels, each with a connection of its own."""
    with contextlib.ExitStack() as stack:
        target = f"127.0.0.1:{port}"
        yield [
            stack.enter_context(grpc.insecure_channel(target, OWN_CONNECTION)) for _ in range(count)
        ]


@contextlib.contextmanager
def silent(server, channels, path, count):
    """Make ``count`` calls of ``path`` without a message, spread over ``channels``.

    Each connection has an open call before the others follow. Otherwise the call of a connection
    that is late, on a busy machine, can fill the queue and be worth as much as a later one.
    """
    over = threading.Event()
    calls = []

    def nothing():
        over.wait(60)
        yield from ()

    def is_open():
        # A call that is evicted already was open before.
        return len(server.calls) >= len(calls) or any(each.done() for each in calls)

    eventually(lambda: not server.calls)
    try:
        for number in range(count):
            calls.append(channels[number % len(channels)].stream_stream(path)(nothing()))
            if number < len(channels):
                eventually(is_open)
        yield calls
    finally:
        over.set()
        for each in calls:
            each.cancel()


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(
    "path",
    [INFER, STREAM, REFLECT, f"/{SERVICE.full_name}/ModelReady", f"/{HEALTH.full_name}/Check"],
    ids=lambda path: path.rpartition("/")[2],
)
def test_calls_without_a_message_block_no_method(two_slots, path, connections):
    """There are more silent calls than slots of their kind, and others still get slots."""
    server = two_slots.server
    with (
        callers(server.port, connections) as greedy,
        silent(server.server, greedy, path, 120),
        callers(server.port, 1) as (other,),
    ):
        client = Client(other)

        def answers(call, request):
            # An idle stream is evicted some time after another stream waits for its slot.
            with contextlib.suppress(grpc.RpcError):
                return list(call(iter([request]), timeout=20))

        health = health_pb2_grpc.HealthStub(other)
        for _ in range(3):
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        assert client.ModelReady(pb.ModelReadyRequest(name="sinc"), timeout=20).ready
        assert client.ModelInfer(sinc(), timeout=20).raw_output_contents
        eventually(lambda: answers(client.ModelStreamInfer, sinc()))
        stub = reflection_pb2_grpc.ServerReflectionStub(other)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        eventually(lambda: answers(stub.ServerReflectionInfo, asked))


@pytest.mark.parametrize("path", [b"/\xff/x", b"/a\0b/c", b"", b"\xff" * 3000])
def test_a_path_of_any_bytes_ends_only_its_call(two_slots, path):
    with http2.connected(two_slots.server.port) as connection:
        connection.send(http2.headers(1, path), http2.message(1))
        answer = next(each for each in connection.frames() if each.kind == http2.HEADERS)
        assert answer.stream == 1
        assert answer.flags & http2.END_STREAM
    with callers(two_slots.server.port, 1) as (other,):
        assert Client(other).ServerLive(pb.ServerLiveRequest(), timeout=20).live


def test_metadata_of_any_bytes_log_no_error(two_slots, caplog):
    path = f"/{SERVICE.full_name}/ServerLive".encode()
    with http2.connected(two_slots.server.port) as connection:
        connection.send(http2.headers(1, path, (b"x-note", b"\xff\xfe")), http2.message(1))
        assert any(each.kind == http2.DATA for each in connection.frames())
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_burst_of_resets_cancels_no_other_call(two_slots):
    """Two connections open calls and reset them at once, as in CVE-2023-44487."""
    codes = set()
    over = threading.Event()

    def ask(client):
        while not over.is_set():
            codes.add(client.ModelInfer.future(sinc(), timeout=30).code())

    with callers(two_slots.server.port, 1) as (other,):
        bystander = threading.Thread(target=ask, args=(Client(other),))
        bystander.start()
        try:
            with (
                http2.connected(two_slots.server.port) as one,
                http2.connected(two_slots.server.port) as two,
            ):
                readers = [
                    threading.Thread(target=lambda c=each: list(c.frames())) for each in (one, two)
                ]
                for each in readers:
                    each.start()
                for first in range(1, 12_000, 100):
                    streams = range(first, first + 100, 2)
                    burst = [http2.headers(s, INFER.encode()) + http2.reset(s) for s in streams]
                    for each in (one, two):
                        with contextlib.suppress(OSError):  # It may be closed for that.
                            each.send(*burst)
                for each in (one, two):
                    with contextlib.suppress(OSError):
                        each.socket.shutdown(socket.SHUT_RDWR)
                for each in readers:
                    each.join(60)
        finally:
            over.set()
            bystander.join(60)
    assert codes == {grpc.StatusCode.OK}


def settings_of(port):
    """Return the HTTP/2 settings of the server by number."""
    with http2.connected(port) as connection:
        (said,) = (
            each.payload
            for each in connection.frames()
            if each.kind == http2.SETTINGS and each.payload
            for _ in [connection.socket.shutdown(socket.SHUT_RDWR)]
        )
    return dict(struct.iter_unpack(">HI", said))


def test_connection_settings_take_effect(rpc_settings):
    chosen = {
        "grpc_max_streams": 7,
        "grpc_min_ping_seconds": LONG,
        "grpc_max_ping_strikes": 1,
        "grpc_idle_seconds": 0.05,
    }
    with serving_rpc(rpc_settings.model_copy(update=chosen)) as served:
        assert settings_of(served.server.port)[http2.MAX_CONCURRENT_STREAMS] == 7
        over = threading.Event()
        with http2.connected(served.server.port) as connection:
            connection.send(http2.headers(1, STREAM.encode()))
            connection.send(*[http2.frame(http2.PING, 0, 0, bytes(8))] * 9)
            reasons = [
                struct.unpack(">II", each.payload[:8])[1]
                for each in connection.frames()
                if each.kind == http2.GOAWAY
            ]
        assert http2.ENHANCE_YOUR_CALM in reasons
        stream = served.client.ModelStreamInfer(iter(over.wait, True), timeout=60)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        over.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "idle for 0.05 seconds" in caught.value.details()


def test_connections_end_at_their_age_and_when_they_are_idle(rpc_settings):
    for chosen in ({"grpc_max_age_seconds": 0.05}, {"grpc_idle_seconds": 0.05}):
        with (
            serving_rpc(rpc_settings.model_copy(update=chosen)) as served,
            http2.connected(served.server.port) as connection,
        ):
            assert any(each.kind == http2.GOAWAY for each in connection.frames())


class Crowd:
    """Calls that hold slots of a pool, in one event loop."""

    def __init__(self, pool):
        self.pool = pool
        self.order = []
        self.tasks = {}

    async def call(self, name, connection):
        try:
            async with self.pool.idle_slot(connection):
                self.order.append(name)
                await asyncio.Event().wait()
        except Overloaded:
            return "refused"
        except TimeoutError:
            return "ended"

    async def come(self, name, connection):
        self.tasks[name] = asyncio.create_task(self.call(name, connection))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def leave(self, name):
        self.tasks[name].cancel()
        for _ in range(4):
            await asyncio.sleep(0)

    async def close(self):
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert len(self.pool) == 0


def scenario(pool, steps):
    async def run():
        crowd = Crowd(pool)
        try:
            await steps(crowd)
        finally:
            await crowd.close()

    asyncio.run(run())


NEVER = EvictionDelays(LONG, LONG, LONG)
"""Delays with which no call is evicted during a test."""

ONE, TWO, FAR = "ipv4:10.0.0.1:1", "ipv4:10.0.0.1:2", "ipv4:10.0.0.2:1"


@pytest.mark.parametrize("other", [TWO, FAR])
def test_a_free_slot_goes_to_the_caller_with_fewest(other):
    async def steps(crowd):
        for number in range(4):
            await crowd.come(f"greedy {number}", ONE)
        await crowd.come("other", other)
        await crowd.leave("greedy 0")
        assert crowd.order == ["greedy 0", "greedy 1", "other"]

    scenario(SlotPool(2, 9, LONG, delays=NEVER), steps)


@pytest.mark.parametrize("other", [TWO, FAR])
def test_the_caller_with_most_slots_is_evicted(other):
    async def steps(crowd):
        await crowd.come("modest", FAR if other == TWO else "ipv4:10.0.0.3:1")
        for number in range(3):
            await crowd.come(f"greedy {number}", ONE)
        await crowd.come("other", other)
        for _ in range(4):
            await asyncio.sleep(0)
        assert await crowd.tasks["greedy 0"] == "ended"
        assert not crowd.tasks["modest"].done()
        assert crowd.order[-1] == "other"

    scenario(SlotPool(4, 9, LONG, delays=EvictionDelays(0.0, LONG, LONG)), steps)


def test_callers_with_fewer_slots_are_not_evicted():
    async def steps(crowd):
        await crowd.come("modest", FAR)
        for number in range(9):
            await crowd.come(f"greedy {number}", ONE)
        for _ in range(9):
            await asyncio.sleep(0)
        assert not crowd.tasks["modest"].done()

    scenario(SlotPool(4, 9, LONG, delays=EvictionDelays(0.0, 0.0, 0.0)), steps)


def test_addresses_of_one_ipv6_network_are_one_caller():
    async def steps(crowd):
        for number in range(3):
            await crowd.come(f"greedy {number}", f"ipv6:%5B2001:db8::{number}%5D:1")
        await crowd.come("other", "ipv6:%5B2001:db8:0:1::1%5D:1")
        await crowd.leave("greedy 0")
        assert crowd.order == ["greedy 0", "greedy 1", "other"]

    scenario(SlotPool(2, 9, LONG, delays=NEVER), steps)


def test_callers_with_equally_few_slots_take_turns():
    async def steps(crowd):
        for number in range(3):
            await crowd.come(f"greedy {number}", ONE)
        await crowd.come("other", TWO)
        for first, then in (("greedy 0", "greedy 1"), ("greedy 1", "other"), ("other", "greedy 2")):
            await crowd.leave(first)
            assert crowd.order[-1] == then

    scenario(SlotPool(1, 9, LONG, delays=NEVER), steps)


def test_a_full_queue_displaces_the_greediest_caller():
    async def steps(crowd):
        for number in range(3):
            await crowd.come(f"greedy {number}", ONE)
        await crowd.come("one too many", ONE)
        assert await crowd.tasks["one too many"] == "refused"
        await crowd.come("other", TWO)
        assert await crowd.tasks["greedy 2"] == "refused"
        await crowd.leave("greedy 0")
        assert crowd.order == ["greedy 0", "greedy 1", "other"]

    scenario(SlotPool(2, 1, LONG, delays=NEVER), steps)


class Strangers:
    """Calls that arrive, wait for their callers and leave at random times."""

    def __init__(self, seed):
        self.choose = random.Random(seed)  # noqa: S311 - to be repeated
        self.pool = SlotPool(3, 4, LONG, delays=EvictionDelays(0.0, 0.001, 0.0))
        self.inside = 0
        self.tasks = []

    async def call(self, connection):
        with contextlib.suppress(Overloaded, TimeoutError):
            wait = self.choose.choice([None, 0.001])
            async with self.pool.slot(connection, wait) as slot:
                self.inside += 1
                assert self.inside <= self.pool.size
                try:
                    async with self.pool.idle(slot):
                        await asyncio.sleep(self.choose.choice([0, 0.001, LONG]))
                    await asyncio.sleep(0)
                finally:
                    self.inside -= 1

    async def come_and_go(self):
        for _ in range(200):
            peer = f"ipv4:10.0.0.{self.choose.randrange(3)}:{self.choose.randrange(3)}"
            self.tasks.append(asyncio.create_task(self.call(peer)))
            if self.choose.random() < 0.3:
                self.choose.choice(self.tasks).cancel()
            await asyncio.sleep(0)
        while not all(task.done() for task in self.tasks):
            for task in self.choose.sample(self.tasks, 50):
                task.cancel()
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("seed", range(20))
def test_slots_are_never_lost_or_granted_twice(seed):
    strangers = Strangers(seed)
    asyncio.run(strangers.come_and_go())
    assert (len(strangers.pool), strangers.inside) == (0, 0)
    errors = [task.exception() for task in strangers.tasks if not task.cancelled()]
    assert [error for error in errors if error is not None] == []
