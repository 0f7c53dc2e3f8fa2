"""Reading takes time proportional to the length of the text, and little of it on the event loop.

Times are those of this thread on the processor, and only their growth is judged: four times the
bytes take four times as long where reading is linear, and sixteen times where it is quadratic.
"""

import asyncio
import contextlib
import gc
import time

import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto
from onnx_models import unary
from repository_models import added

from gatewave.service.activate.batch import read_batch
from gatewave.service.activate.messages import BodyReader
from gatewave.service.activate.protocol import ActivateProtocol
from gatewave.service.app import create_app
from gatewave.service.codecs.datatypes import DATATYPES
from gatewave.service.errors import DeadlineExceeded, ServiceError
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc import messages
from gatewave.service.http import compression, media
from gatewave.service.oip import json
from gatewave.service.oip.json import Bounds
from gatewave.service.oip.protocol import InferLimits, InferProtocol
from gatewave.service.oip.tensors import from_raw
from gatewave.service.serving.memory import Budget
from gatewave.service.serving.pipeline import Pipeline
from gatewave.service.serving.request import Timing
from gatewave.service.serving.worker_pool import WorkerPool
from gatewave.service.settings import Settings
from gatewave.service.system.cancellation import CancelToken

SMALL, LARGE = 1 << 16, 1 << 18
"""Bytes of the longest body that is read on the event loop, and a quarter of that."""

MAX_GROWTH = 8.0
TRIES = 5


def filled(length, head, part, tail, separator=b","):
    """Return as many of ``part`` between ``head`` and ``tail`` as fit."""
    count = (length - len(head) - len(tail)) // (len(part) + len(separator))
    return head + separator.join([part] * count) + tail


def keyed(length, head, tail, form=b'"%06x":1'):
    """Return a text as `filled` does, of fields with different names."""
    count = (length - len(head) - len(tail)) // (len(form % 0) + 1)
    return head + b",".join(form % number for number in range(count)) + tail


X = b'{"activation":"sinc","inputs":{"x":'
PARAMS = b'{"activation":"sinc","inputs":{"x":[1]},"params":{'
OUTPUTS = b'{"activation":"sinc","inputs":{"x":[1]},"outputs":['
OIP = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[4],"data":'
WHOLE = OIP + b"[1,2,3,4]}],"
SHAPE = b'{"inputs":[{"name":"x","datatype":"FP32","data":[1],"shape":['
ENTRY = b'"%06x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'

ACTIVATE = {
    "fields": lambda n: keyed(n, b"{", b"}"),
    "inputs": lambda n: keyed(n, b'{"activation":"sinc","inputs":{', b"}}"),
    "parameters": lambda n: keyed(n, PARAMS, b"}}"),
    "outputs": lambda n: filled(n, OUTPUTS, b'"y"', b"]}"),
    "wrong outputs": lambda n: filled(n, OUTPUTS, b"1", b"]}"),
    "empty lists": lambda n: filled(n, X + b"[", b"[]", b"]}}"),
    "lists": lambda n: filled(n, X + b"[", b"[[[1]]]", b"]}}"),
    "ragged lists": lambda n: filled(n, X + b"[", b"[1]", b",[1,2]]}}"),
    "objects": lambda n: filled(n, X + b"[", b"{}", b"]}}"),
    "numbers": lambda n: filled(n, X + b"[", b"1", b"]}}"),
    "words": lambda n: filled(n, X + b"[", b'"NaN"', b"]}}"),
    "strings": lambda n: filled(n, X + b"[", b'""', b"]}}"),
    "brackets": lambda n: b"[" * (n // 2) + b"]" * (n // 2),
    "brackets in a string": lambda n: filled(n, b'{"activation":"', b"[", b'"}', b""),
    "escapes": lambda n: filled(n, b'{"activation":"', b"\\u00e9", b'"}', b""),
    "a name": lambda n: filled(n, b'{"activation":"sinc","inputs":{"', b"x", b'":1}}', b""),
}
INFER = {
    "fields": lambda n: keyed(n, b'{"inputs":[],', b"}"),
    "fields of an input": lambda n: keyed(n, b'{"inputs":[{', b"}]}"),
    "inputs": lambda n: filled(n, b'{"inputs":[', b"{}", b"]}"),
    "parameters": lambda n: keyed(n, WHOLE + b'"parameters":{', b"}}"),
    "outputs": lambda n: filled(n, WHOLE + b'"outputs":[', b'{"name":"y"}', b"]}"),
    "axes": lambda n: filled(n, SHAPE, b"1", b"]}]}"),
    "lists for axes": lambda n: filled(n, SHAPE, b"[]", b"]}]}"),
    "empty lists": lambda n: filled(n, OIP + b"[", b"[]", b"]}]}"),
    "lists": lambda n: filled(n, OIP + b"[", b"[[1]]", b"]}]}"),
    "objects": lambda n: filled(n, OIP + b"[", b"{}", b"]}]}"),
    "bare words": lambda n: filled(n, OIP + b"[", b"NaN", b"]}]}"),
    "objects and a bare word": lambda n: filled(n, OIP + b"[", b'{"a":1}', b",NaN]}]}"),
    "brackets and a bare word": lambda n: b"[" * (n // 2) + b"NaN" + b"]" * (n // 2),
    "escapes and a bare word": lambda n: filled(n, OIP + b'["', b"\\u00e9", b'",NaN]}]}', b""),
}
BATCH = {
    "requests": lambda n: filled(n, b'{"requests":[', b"{}", b"]}"),
    "fields": lambda n: keyed(n, b"{", b"}"),
    "fields of a request": lambda n: keyed(n, b'{"requests":[{', b"}]}"),
    "lists": lambda n: filled(n, b'{"requests":[' + X + b"[", b"[1]", b",[]]}}]}"),
}
FILE = {
    "tensors": lambda n: keyed(n // 8, b"{", b"}", ENTRY),
    "metadata": lambda n: keyed(n // 8, b'{"__metadata__":{', b"}}", b'"%06x":""'),
    "lists": lambda n: filled(n // 8, b'{"x":[', b"[]", b"]}"),
}


def raw_strings(datatype, part):
    """Return a body of raw BYTES: its JSON and its tensors."""

    def body(length):
        count = length // len(part)
        head = b'{"inputs":[{"name":"x","datatype":"%s","shape":[%d],"parameters":{' % (
            datatype,
            count,
        )
        head += b'"binary_data_size":%d}}]}' % (count * len(part))
        return head, part * count

    return body


STRINGS = {
    "empty": raw_strings(b"BYTES", b"\0\0\0\0"),
    "short": raw_strings(b"BYTES", b"\3\0\0\0abc"),
    "not UTF-8": raw_strings(b"BYTES", b"\1\0\0\0\xff"),
}


def message(count, *, datatype="BYTES", shape=None, **contents):
    given = {"name": "x", "datatype": datatype, "shape": [count] if shape is None else shape}
    return pb.ModelInferRequest(inputs=[{**given, "contents": contents}]).SerializeToString()


def of_parameters(length):
    parameters = {f"{number:06x}": {"bool_param": True} for number in range(length // 16)}
    given = {"name": "x", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    return pb.ModelInferRequest(inputs=[given]).SerializeToString()


MESSAGES = {
    "strings": lambda n: message(n // 2, bytes_contents=[b""] * (n // 2)),
    "integers": lambda n: message(n, datatype="INT32", int_contents=[1] * n),
    "flags": lambda n: message(n, datatype="BOOL", bool_contents=[True] * n),
    "axes": lambda n: message(n, shape=[1] * n),
    "inputs": lambda n: pb.ModelInferRequest(inputs=[{}] * (n // 2)).SerializeToString(),
    "outputs": lambda n: pb.ModelInferRequest(outputs=[{}] * (n // 2)).SerializeToString(),
    "parameters": of_parameters,
}


class Taking:
    """Model that accepts any tensor, so that its elements are read."""

    def check_announced(self, name, datatype):
        """Accept all tensors."""


def of_message(data):
    messages.structured_bytes(data)
    request = messages.parsed(pb.ModelInferRequest, data)
    messages.check_sizes(request)
    messages.elements_in(request)
    messages.memory_of(request)
    messages.inputs_of(request, Taking(), 16)


@pytest.fixture(scope="module")
def reader(app):
    reader = BodyReader(app.state.service)
    reader.document({"activation": "sinc", "inputs": {"x": [1]}})
    return reader


@pytest.fixture(scope="module")
def words(app, tmp_path_factory):
    made = unary("Identity", ["n"], TensorProto.STRING)
    with added(app.state.service, tmp_path_factory.mktemp("words"), "words", made) as model:
        yield model


BOUNDS = Bounds(16, 1 << 23)


@pytest.fixture(scope="module")
def readers(app, reader, words):
    sinc = app.state.service.registry.get("sinc", "")
    infer = InferProtocol(app.state.service, InferLimits(BOUNDS, 1 << 30), sinc, None)

    def file(header):
        return reader.safetensors(len(header).to_bytes(8, "little") + header)

    def strings(body):
        head, data = body
        json.unpacked(json.opened(head + data, len(head)), words, BOUNDS)

    return {
        "activate": lambda body: ActivateProtocol(reader).decode(body, Timing()).read(),
        "batch": lambda body: read_batch(reader, body, None),
        "file": file,
        "infer": lambda body: infer.decode(body, Timing()).read(),
        "strings": strings,
        "message": of_message,
        "accept": lambda text: media.accepted(text, media.JSON),
        "accept-encoding": compression.accepted,
    }


HEADERS = {
    "commas": lambda n: "," * (n // 4),
    "semicolons": lambda n: ";" * (n // 4),
    "names": lambda n: "a/b;q=0.5," * (n // 40),
}
CASES = {
    f"{reader}: {name}": (reader, build)
    for reader, builds in (
        ("activate", ACTIVATE),
        ("batch", BATCH),
        ("file", FILE),
        ("infer", INFER),
        ("strings", STRINGS),
        ("message", MESSAGES),
        ("accept", HEADERS),
        ("accept-encoding", HEADERS),
    )
    for name, build in builds.items()
}


def seconds(read, body):
    """Return the processor time of reading ``body``, in seconds."""
    began = time.thread_time()
    with contextlib.suppress(ServiceError):
        read(body)
    return time.thread_time() - began


GRAIN = 2e-4
"""Seconds below which a time is noise, and is ignored."""


@pytest.mark.parametrize(("way", "build"), CASES.values(), ids=CASES)
def test_reading_takes_time_in_proportion_to_the_body(readers, way, build):
    read, bodies = readers[way], (build(SMALL), build(LARGE))
    gc.disable()  # It looks through all tests' objects.
    try:
        times = [[seconds(read, body) for body in bodies] for _ in range(TRIES)]
    finally:
        gc.enable()
    small, large = map(min, zip(*times, strict=True))
    assert large < MAX_GROWTH * max(small, GRAIN)


@pytest.fixture(scope="module")
def full(settings):
    """Service with one lane, which is taken: work for a lane is refused."""
    app = create_app(settings.model_copy(update={"lanes": 1, "max_queue": 0}))
    with TestClient(app) as client:
        client.portal.call(app.state.service.pipeline.worker_pool.acquire)
        yield client


@pytest.mark.parametrize(
    ("path", "build"),
    [
        ("/activate", ACTIVATE["objects"]),
        ("/activate/batch", BATCH["requests"]),
        ("/v2/models/sinc/infer", INFER["objects"]),
    ],
    ids=["activate", "batch", "infer"],
)
def test_only_short_complex_text_is_read_inline(full, path, build):
    inline = Settings().inline_bytes
    assert full.post(path, content=build(inline // 100)).status_code in {400, 422}
    assert full.post(path, content=build(inline // 4)).status_code == 503


class Collections:
    """Runs of the garbage collector within the block."""

    def __enter__(self):
        self.count = 0
        gc.callbacks.append(self._noted)
        return self

    def _noted(self, phase, _):
        self.count += phase == "stop"

    def __exit__(self, *_):
        gc.callbacks.remove(self._noted)


LONG = 1 << 20
"""In bytes: what takes a lane."""


@pytest.mark.parametrize(
    ("way", "build"),
    [
        ("activate", ACTIVATE["empty lists"]),
        ("activate", ACTIVATE["ragged lists"]),
        ("batch", BATCH["lists"]),
        ("infer", INFER["lists"]),
    ],
    ids=["empty", "ragged", "batch", "infer"],
)
def test_the_collector_does_not_look_at_long_documents_again_and_again(readers, way, build):
    worker_pool, thresholds = WorkerPool(1, 1), gc.get_threshold()
    pipeline = Pipeline(worker_pool, Budget(1), inline_bytes=0, output_bytes=1)
    body = build(LONG)
    with contextlib.suppress(ServiceError), Collections() as collections:
        asyncio.run(pipeline.work(len(body), lambda: readers[way](body)))
    worker_pool.close()
    assert collections.count < body.count(b"[") / thresholds[0] / 4
    assert gc.get_threshold() == thresholds


def get(app, *, query=b"", headers=()):
    """Return the status of GET /livez without a network."""
    sent = []

    async def receive():
        return {"type": "json.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/livez",
        "raw_path": b"/livez",
        "root_path": "",
        "query_string": query,
        "scheme": "http",
        "headers": list(headers),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("build", "status"),
    [
        (lambda n: {"query": b"&" * n}, 422),
        (lambda n: {"query": keyed(n, b"", b"", b"%06x=1").replace(b",", b"&")}, 422),
        (lambda n: {"headers": [(b"cookie", b"a=1;" * (n // 4))]}, 200),
        (lambda n: {"headers": [(b"cookie", b'a="' + b"\\1" * (n // 2) + b'"')]}, 200),
    ],
    ids=["ampersands", "fields", "cookies", "a quoted cookie"],
)
def test_a_long_head_costs_no_more_than_its_length(app, build, status):
    def read(length):
        assert get(app, **build(length)) == status

    small, large = (min(seconds(read, length) for _ in range(TRIES)) for length in (4096, 1 << 15))
    assert large < 2 * MAX_GROWTH * max(small, GRAIN)


def test_work_ends_when_its_caller_has_gone():
    """Reading checks between its pieces whether its result is still needed."""

    async def scenario():
        worker_pool = WorkerPool(1, 4)
        data = memoryview(b"\0\0\0\0" * (1 << 16))
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        errors = []

        def endless():
            loop.call_soon_threadsafe(begun.set)
            try:
                while True:
                    from_raw(DATATYPES["BYTES"], [1 << 16], data, "")
            except DeadlineExceeded as error:
                errors.append(error)
                raise

        task = asyncio.create_task(worker_pool.run(endless))
        await begun.wait()
        task.cancel()
        async with asyncio.timeout(30):
            await worker_pool.run(int)
        worker_pool.close()
        return errors

    assert [str(error) for error in asyncio.run(scenario())] == [
        "the caller has gone, and the work was ended"
    ]


def test_work_ends_when_its_time_is_up():
    async def scenario():
        worker_pool = WorkerPool(1, 4)
        data = memoryview(b"\0\0\0\0")

        def endless():
            while True:
                from_raw(DATATYPES["BYTES"], [1], data, "")

        try:
            async with asyncio.timeout(30):
                await worker_pool.run(endless, CancelToken(time.monotonic() + 0.05))
        finally:
            worker_pool.close()

    with pytest.raises(DeadlineExceeded, match="the deadline passed while the request was read"):
        asyncio.run(scenario())
