"""Refused requests are freed at once, on each path, without the cyclic garbage collector."""

import asyncio
import collections
import contextlib
import gc
import time
import traceback

import grpc
import numpy as np
import orjson
import pytest
from calls import serving_rpc
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model, port
from repository_models import added
from safetensors.numpy import save

from gatewave.service.app import create_app
from gatewave.service.errors import ServiceError
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.http.media import SAFETENSORS
from gatewave.service.serving.model import Batching
from gatewave.service.serving.worker_pool import WorkerPool
from gatewave.service.system.cancellation import CancelToken

LISTS = 2_000
"""Number of lists in each document; they are kept if the document is."""

TIMES = 3
LENGTH = "inference-header-content-length"

LONG = [[number] for number in range(LISTS)]
"""A tensor that the complete reader converts to lists."""


def activation(**changes):
    return {"activation": "swish", "inputs": {"x": LONG}, **changes}


def oip(data=LONG, name="x", shape=(LISTS, 1), datatype="FP32", **more):
    one = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return {"inputs": [one], **more}


def deep(depth):
    nested = LONG
    for _ in range(depth):
        nested = [nested]
    return nested


def raw(document, data):
    head = orjson.dumps(document)
    return head + data, {LENGTH: str(len(head))}


def strings(count):
    one = {"name": "x", "shape": [count], "datatype": "BYTES"}
    return {"inputs": [{**one, "parameters": {"binary_data_size": 4 * count}}], "id": "x" * 2000}


FILE = {"content-type": SAFETENSORS}
X = np.zeros(LISTS, np.float32)
ACTIVATE = {
    "an unknown field": (activation(more=LONG), {}),
    "an unknown activation": (activation(activation="none"), {}),
    "an unknown input": (activation(inputs={"z": LONG}), {}),
    "an unknown parameter": (activation(params={"z": LONG}), {}),
    "ragged lists": (activation(inputs={"x": [*LONG, [1, 2]]}), {}),
    "lists that are too deep": (activation(inputs={"x": deep(17)}), {}),
    "too many elements": (activation(inputs={"x": [*LONG, *LONG, [1]]}), {}),
    "a word that is no number": (activation(inputs={"x": [*LONG, ["x"]]}), {}),
    "a bare NaN": (orjson.dumps(activation())[:-2] + b",[NaN]]}}", {}),
    "half a document": (orjson.dumps(activation())[:-2], {}),
    "an unknown media type": (activation(), {"content-type": "text/plain"}),
    "an unacceptable answer": (activation(), {"accept": "text/plain"}),
    "a body that is too long": (orjson.dumps(activation()) + b" " * 200_000, {}),
    "a file with an unknown activation": (save({"x": X}, {"activation": "none"}), FILE),
    "a file with an unknown tensor": (save({"z": X}, {"activation": "swish"}), FILE),
    "half a file": (save({"x": X}, {"activation": "swish"})[:-1], FILE),
    "a file that is none": (b"\xff" * 2000, FILE),
}
BATCH = {
    "a wrong item": ({"requests": [activation(activation="none"), activation(more=1)]}, {}),
    "no requests": ({"requests": {"x": LONG}}, {}),
    "too many requests": ({"requests": [{"x": LONG}, *[{}] * 300]}, {}),
    "an unknown field": ({"requests": [], "x": LONG}, {}),
}
INFER = {
    "an unknown field": ({"inputs": [{"x": LONG}]}, {}),
    "inputs that are no list": ({"inputs": {"x": LONG}}, {}),
    "an unknown input": (oip(name="z"), {}),
    "an unknown output": (oip(outputs=[{"name": "none"}]), {}),
    "a wrong flag": (oip(parameters={"binary_data_output": LONG}), {}),
    "another datatype": (oip(datatype="FP64"), {}),
    "an unknown datatype": (oip(datatype="FLOAT"), {}),
    "too few values": (oip(LONG[1:]), {}),
    "a word that is no number": (oip([*LONG[1:], ["x"]]), {}),
    "a bare NaN": (orjson.dumps(oip())[:-3] + b",[NaN]]}]}", {}),
    "half a document": (orjson.dumps(oip())[:-2], {}),
    "a wrong timeout": (oip(parameters={"timeout": -1}), {}),
    "an unknown coding": (oip(), {"content-encoding": "br"}),
    "what is no gzip": (oip(), {"content-encoding": "gzip"}),
    "raw bytes left over": raw(oip(), b"\0" * 4096),
    "raw strings": raw(strings(1000), b"\0" * 4000),
    "a header that is too long": (oip(), {LENGTH: "1" * 9}),
}
INDEX = {
    "no object": ([LONG], {}),
    "half a document": (orjson.dumps(LONG)[:-1], {}),
}
REFUSED = {
    f"{path}: {name}": (path, *case)
    for path, cases in (
        ("/activate", ACTIVATE),
        ("/activate/batch", BATCH),
        ("/v2/models/swish/infer", INFER),
        ("/v2/models/none/infer", {"an unknown model": (oip(), {})}),
        ("/v2/repository/index", INDEX),
    )
    for name, case in cases.items()
}


def left_by(work):
    """Return the objects that remain after ``work``, by kind, with the cyclic collector off."""
    work()  # Create objects that are created once.
    gc.disable()
    gc.freeze()  # Existing objects are not listed below.
    try:
        for _ in range(TIMES):
            work()
        return collections.Counter(map(type, gc.get_objects()))
    finally:
        gc.unfreeze()
        gc.enable()


HELD = (BaseException, asyncio.Future)
"""Kinds of objects in reference cycles."""


def check_freed(work, *held):
    left = left_by(work)
    # One of each may be left: the thread of a lane may still hold the last one.
    kept = {kind: count for kind, count in left.items() if count >= TIMES}
    assert [kind for kind in kept if issubclass(kind, held or HELD)] == []
    assert left[list] < TIMES * LISTS


class Asked:
    """Request without a network, and the status of its answer."""

    def __init__(self, path, body, headers):
        self.body = body if isinstance(body, bytes) else orjson.dumps(body)
        self.status = None
        self.is_asked = False
        self.gone = asyncio.Event()
        given = {"content-length": str(len(self.body)), **headers}
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }

    async def receive(self):
        if self.is_asked:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        self.is_asked = True
        return {"type": "http.request", "body": self.body}

    async def send(self, message):
        self.status = message.get("status", self.status)


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def start(settings):
    """Return a function that starts applications with small limits."""
    with contextlib.ExitStack() as stack:

        def start(**changes):
            limits = {"max_elements": 2 * LISTS, "max_body_bytes": 150_000, "lanes": 1}
            app = create_app(settings.model_copy(update=limits | changes))
            stack.callback(app.state.service.close)
            return app

        yield start


@pytest.fixture(scope="module", params=["inline", "lanes"])
def served(request, start):
    """Application that reads on the event loop, or in lanes."""
    return start(inline_bytes={"inline": 1 << 20, "lanes": 64}[request.param])


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_refused_request_is_freed(runner, served, case):
    def ask():
        asked = Asked(*case)
        runner.run(served(asked.scope, asked.receive, asked.send))
        # Of a batch with a wrong item, 200.
        assert asked.status == 200 or 400 <= asked.status < 500

    check_freed(ask)


ASKED = pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/activate", activation()),
        ("/activate/batch", {"requests": [activation()]}),
        ("/v2/models/swish/infer", oip()),
    ],
    ids=["activate", "batch", "v2"],
)


@ASKED
@pytest.mark.parametrize(
    ("changes", "gone", "status"),
    [
        ({"max_queue": 0}, False, 503),
        ({"max_memory_bytes": 20_000}, False, 503),
        ({"timeout_seconds": 0.001}, False, 503),
        ({}, True, None),
    ],
    ids=["line", "memory", "deadline", "gone"],
)
def test_a_request_that_is_not_served_is_freed(
    runner, start, path, document, changes, gone, status
):
    app = start(inline_bytes=64, **changes)
    runner.run(app.state.service.pipeline.worker_pool.acquire())

    def ask():
        asked = Asked(path, document, {})
        if gone:
            asked.gone.set()
        runner.run(app(asked.scope, asked.receive, asked.send))
        assert asked.status == status

    check_freed(ask)


@pytest.fixture(params=[None, Batching(8)], ids=["alone", "batched"])
def failing(request, start, tmp_path):
    """Application with a model that cannot compute its inputs."""
    app = start(inline_bytes=64)
    table = numpy_helper.from_array(np.zeros(4, np.float32), "table")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    made = model([node], [port("x", ["n", 1], TensorProto.INT64)], [port("y", ["n", 1])], [table])
    with added(app.state.service, tmp_path, "gather", made, request.param):
        yield app


def test_a_request_that_its_model_cannot_compute_is_freed(runner, failing):
    def ask():
        asked = Asked("/v2/models/gather/infer", oip(datatype="INT64"), {})
        runner.run(failing(asked.scope, asked.receive, asked.send))
        assert asked.status == 400

    check_freed(ask)


class Held:
    """Object that can be searched for."""


@pytest.mark.parametrize("deadline", [None, 60], ids=["endless", "timely"])
def test_an_internal_failure_frees_its_objects(runner, deadline):
    """Its traceback stays for the log."""

    async def scenario():
        worker_pool = WorkerPool(1, 1)

        def work():
            held = Held()
            raise ZeroDivisionError(repr(held))

        until = None if deadline is None else time.monotonic() + deadline
        try:
            await worker_pool.run(work, CancelToken(until), Untrusted())
        except ZeroDivisionError as error:
            return traceback.extract_tb(error.__traceback__)[-1].name
        finally:
            worker_pool.close()

    def fail():
        assert runner.run(scenario()) == "work"

    check_freed(fail, ZeroDivisionError, Held)


class Untrusted:
    """Owner of runs that are ended at their deadline."""

    trusted = False
    instances = 0


def called(data=None, **changes):
    """Request of a ModelInfer call."""
    given = {"name": "x", "datatype": "FP32", "shape": [LISTS]}
    if data is None:
        given["contents"] = {"fp32_contents": [0.5] * LISTS}
    fields = {"model_name": "swish", "inputs": [given], **changes}
    request = pb.ModelInferRequest(**fields)
    if data is not None:
        request.raw_input_contents.append(data)
    return request


CALLS = {
    "an unknown model": called(model_name="none"),
    "an unknown output": called(outputs=[{"name": "none"}]),
    "raw contents of another size": called(b"\0"),
    "raw contents that are not UTF-8": called(
        b"\1\0\0\0\xff" * 10, inputs=[{"name": "x", "datatype": "BYTES", "shape": [10]}]
    ),
    "no contents": called(inputs=[{"name": "x", "datatype": "FP32", "shape": [LISTS]}]),
    "a parameter without a value": called(parameters={"alpha": {}}),
    "too many elements": called(inputs=[{"name": "x", "datatype": "FP32", "shape": [1 << 30]}]),
    "no message": b"\xff" * 2000,
}


@pytest.fixture(scope="module", params=["inline", "lanes"])
def rpc(request, settings):
    inline = {"inline": 1 << 20, "lanes": 64}[request.param]
    limits = {"max_elements": 2 * LISTS, "inline_bytes": inline, "lanes": 1}
    with serving_rpc(settings.model_copy(update=limits)) as served:
        yield served


@pytest.mark.parametrize("way", ["unary", "stream"])
@pytest.mark.parametrize("request_", CALLS.values(), ids=CALLS)
def test_a_refused_call_is_freed(rpc, request_, way):
    def ask():
        if way == "stream":
            (answer,) = rpc.client.ModelStreamInfer(iter([request_]), timeout=30)
            assert answer.error_message
            return
        with contextlib.suppress(grpc.RpcError):
            rpc.client.ModelInfer(request_, timeout=30)
            pytest.fail("it was not refused")

    # gRPC keeps each AbortError of its own in a cycle, which holds no message.
    check_freed(ask, ServiceError)
