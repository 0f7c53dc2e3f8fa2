"""Lifetime of a request: its deadline, its caller, its place in the queue, and its counts."""

import asyncio
import contextlib
import threading
import time

import numpy as np
import orjson
import pytest
from safetensors.numpy import save
from starlette.requests import ClientDisconnect
from waiting import until

from gatewave.service.activate.batch import read_batch, to_json_batch
from gatewave.service.activate.messages import BodyReader
from gatewave.service.http.exchange import Exchange
from gatewave.service.http.media import SAFETENSORS
from gatewave.service.http.routes.activate import ActivateEndpoint, BatchEndpoint
from gatewave.service.http.routes.v2 import InferEndpoint
from gatewave.service.observability.metrics import ModelTotals, numbers
from gatewave.service.oip.requests import deadline
from gatewave.service.state import ServiceState
from gatewave.service.system.cancellation import CancelToken

LARGE = {"activation": "sinc", "inputs": {"x": [0.5] * 40_000}}
SHORT = {"activation": "sinc", "inputs": {"x": [0] * 40_000}, "dtype": "float64"}
"""Request with a short text and a large tensor."""
OIP = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [40_000], "data": [0] * 40_000}]}


class Gate:
    """Work that ends when the gate is opened."""

    def __init__(self):
        self.open = threading.Event()

    def __call__(self):
        assert self.open.wait(30)


class Caller:
    """HTTP client without a network: one request and its answer."""

    def __init__(self, path, body, **headers):
        self.sent = []
        self.gone = asyncio.Event()
        self.came = asyncio.Event()
        self.body = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"content-length": str(len(self.body)), **headers}
        self.scope = {
            "type": "http",
            "path": path,
            "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in given.items()],
        }

    async def receive(self):
        if not self.came.is_set():
            self.came.set()
            return {"type": "http.request", "body": self.body}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def document(self):
        return orjson.loads(b"".join(m.get("body", b"") for m in self.sent[1:]))

    def ask(self, endpoint):
        return asyncio.create_task(endpoint(Exchange(self.scope, self.receive, self.send)))


@pytest.fixture
def start(settings):
    """Return a function that starts a runtime with a single lane."""
    with contextlib.ExitStack() as stack:

        def start(**changes):
            bounds = {"max_elements": 10**6, "max_output_bytes": 400_000}
            small = {"lanes": 1, "max_queue": 2, "inline_bytes": 100_000}
            runtime = ServiceState.start(settings.model_copy(update=bounds | small | changes))
            stack.callback(runtime.close)
            return runtime

        yield start


@pytest.fixture
def runtime(start):
    return start()


ASKED = pytest.mark.parametrize(
    ("endpoint", "path", "body"),
    [
        (ActivateEndpoint, "/activate", LARGE),
        (ActivateEndpoint, "/activate", SHORT),
        (BatchEndpoint, "/activate/batch", {"requests": [LARGE]}),
        (BatchEndpoint, "/activate/batch", {"requests": [SHORT]}),
        (InferEndpoint, "/v2/models/sinc.float64/infer", OIP),
    ],
    ids=["long", "short", "batch", "short-batch", "v2"],
)


@contextlib.asynccontextmanager
async def busy(runtime):
    """Occupy the only lane."""
    gate = Gate()
    work = asyncio.create_task(runtime.pipeline.worker_pool.run(gate))
    await asyncio.sleep(0)
    try:
        yield gate
    finally:
        gate.open.set()
        await work


@ASKED
def test_nobody_waits_for_a_lane_beyond_the_deadline(start, endpoint, path, body):
    runtime = start(timeout_seconds=0.2)

    async def work():
        async with busy(runtime):
            caller = Caller(path, body)
            began = time.monotonic()
            async with asyncio.timeout(5):
                await caller.ask(endpoint(runtime))
            return caller.status, time.monotonic() - began

    status, seconds = asyncio.run(work())
    assert status == 503
    assert seconds >= 0.2
    assert runtime.pipeline.budget.used == 0


@ASKED
def test_who_has_gone_waits_for_no_lane(runtime, endpoint, path, body):
    async def work():
        async with busy(runtime):
            caller = Caller(path, body)
            asked = caller.ask(endpoint(runtime))
            await until(lambda: runtime.pipeline.worker_pool.queue.length == 1)
            caller.gone.set()
            async with asyncio.timeout(10):
                await asyncio.gather(asked, return_exceptions=True)
            await until(lambda: runtime.pipeline.worker_pool.queue.length == 0)
            return caller.sent

    assert asyncio.run(work()) == []
    assert runtime.pipeline.budget.used == 0


def test_what_was_computed_is_not_refused_for_want_of_a_place_in_the_line(runtime):
    async def work():
        async with busy(runtime) as gate:
            line = [asyncio.create_task(runtime.pipeline.worker_pool.run(int)) for _ in range(2)]
            await until(lambda: runtime.pipeline.worker_pool.queue.length == 2)
            writing = asyncio.create_task(runtime.pipeline.finish(1 << 20, lambda: "written"))
            await until(lambda: runtime.pipeline.worker_pool.queue.length == 3)
            gate.open.set()
            await asyncio.gather(*line)
            return await writing

    assert asyncio.run(work()) == "written"


def test_a_timeout_counts_from_when_the_request_had_come(runtime):
    assert deadline(runtime, {"timeout": 500_000}, 7.0) == 7.5
    assert deadline(runtime, {}, 7.0) == 7 + runtime.settings.timeout_seconds


def test_an_item_of_a_batch_that_is_late_says_so_and_fails_alone(runtime):
    reader, body = BodyReader(runtime), orjson.dumps({"requests": [SHORT]})
    deadlines = (time.monotonic() - 1, time.monotonic() + 60)
    items = [item for deadline in deadlines for item in read_batch(reader, body, deadline)]
    late, good = orjson.loads(to_json_batch(runtime.pipeline, items, CancelToken()))["results"]
    assert late["problem"]["type"].endswith("deadline-exceeded")
    assert good["shape"] == [40_000]


def test_a_batch_that_nobody_waits_for_is_computed_no_further(runtime):
    items = read_batch(BodyReader(runtime), orjson.dumps({"requests": [SHORT]}), None)
    token = CancelToken()
    token.cancel()
    before = numbers()["sinc.float64", "1"]["compute"]
    assert to_json_batch(runtime.pipeline, items, token) == b'{"results":[]}'
    assert numbers()["sinc.float64", "1"]["compute"] == before


def test_the_results_of_a_batch_are_bounded_together(runtime):
    async def work(count):
        caller = Caller("/activate/batch", {"requests": [SHORT] * count})
        await caller.ask(BatchEndpoint(runtime))
        return caller

    assert asyncio.run(work(1)).status == 200
    refused = asyncio.run(work(2))
    assert refused.status == 422
    assert refused.document["errors"][0]["field"] == "requests"
    assert runtime.pipeline.budget.used == 0


@contextlib.contextmanager
def counting(model):
    """Record the changes of a model's counts and sums during the block."""
    added = {}
    before = numbers().get((model, "1"), ModelTotals())
    yield added
    after = numbers()[model, "1"]
    for name in ("ok", "failed", "decode", "compute", "encode"):
        added[name] = tuple(a - b for a, b in zip(after[name], before[name], strict=True))


ONE_WAY = pytest.mark.parametrize(
    ("endpoint", "path", "body"),
    [
        (ActivateEndpoint, "/activate", SHORT),
        (InferEndpoint, "/v2/models/sinc.float64/infer", OIP),
    ],
    ids=["activate", "v2"],
)


@ONE_WAY
def test_the_time_that_a_body_takes_to_come_is_not_the_models(runtime, endpoint, path, body):
    async def work():
        caller = Caller(path, body)
        came = asyncio.Event()
        receive = caller.receive

        async def late():
            await came.wait()
            return await receive()

        caller.receive = late
        asyncio.get_running_loop().call_later(0.5, came.set)
        await caller.ask(endpoint(runtime))
        return caller.status

    with counting("sinc.float64") as added:
        assert asyncio.run(work()) == 200
    assert [added[name][0] for name in ("ok", "failed", "decode", "encode")] == [1, 0, 1, 1]
    assert added["decode"][1] <= added["ok"][1] < 0.4


@ONE_WAY
def test_the_wait_for_a_lane_is_no_part_of_reading(runtime, endpoint, path, body):
    long = orjson.dumps(body) + b" " * 100_000

    async def work():
        async with busy(runtime) as gate:
            caller = Caller(path, long)
            asked = caller.ask(endpoint(runtime))
            await until(lambda: runtime.pipeline.worker_pool.queue.length == 1)
            asyncio.get_running_loop().call_later(0.5, gate.open.set)
            await asked
        return caller.status

    with counting("sinc.float64") as added:
        assert asyncio.run(work()) == 200
    assert added["decode"][1] < 0.4
    assert added["ok"][1] >= 0.4


@ONE_WAY
def test_a_request_whose_client_does_not_take_the_answer_is_counted_once(
    runtime, endpoint, path, body
):
    async def work():
        caller = Caller(path, body)

        async def lost(_):
            raise ClientDisconnect

        caller.send = lost
        with pytest.raises(ClientDisconnect):
            await caller.ask(endpoint(runtime))

    with counting("sinc.float64") as added:
        asyncio.run(work())
    assert (added["ok"][0], added["failed"][0]) == (1, 0)


WRONG = SHORT | {"inputs": {"x": [0, "no number"]}}
WRONG_OIP = {"inputs": [OIP["inputs"][0] | {"data": ["no number"]}]}
WRONG_FILE = save({"z": np.zeros(2)}, {"activation": "sinc"})


@pytest.mark.parametrize(
    ("endpoint", "path", "body", "headers"),
    [
        (ActivateEndpoint, "/activate", WRONG, {}),
        (ActivateEndpoint, "/activate", WRONG_FILE, {"content_type": SAFETENSORS}),
        (BatchEndpoint, "/activate/batch", {"requests": [WRONG]}, {}),
        (InferEndpoint, "/v2/models/sinc.float64/infer", WRONG_OIP, {}),
    ],
    ids=["activate", "file", "batch", "v2"],
)
def test_a_bad_tensor_is_a_failed_request_however_it_came(runtime, endpoint, path, body, headers):
    async def work():
        caller = Caller(path, body, **headers)
        await caller.ask(endpoint(runtime))

    with counting("sinc.float64") as added:
        asyncio.run(work())
    assert (added["ok"][0], added["failed"][0]) == (0, 1)


def test_each_request_of_a_batch_is_counted(runtime):
    async def work():
        small = SHORT | {"inputs": {"x": [0]}}
        await Caller("/activate/batch", {"requests": [small, small]}).ask(BatchEndpoint(runtime))

    with counting("sinc.float64") as added:
        asyncio.run(work())
    assert [added[name][0] for name in ("ok", "decode", "compute", "encode")] == [2] * 4
