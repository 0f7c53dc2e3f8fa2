"""Answers of the fast path equal those of the application, byte by byte."""

import time

import numpy as np
import orjson
import pytest
import safetensors.numpy

from gatewave.service.app import fast_path
from gatewave.service.codecs.bodies import JSON, OCTETS, SAFETENSORS

LENGTH = "Inference-Header-Content-Length"
A, B = np.linspace(-4, 4, 2 * 64, dtype=np.float32).reshape(2, 64)
REQUESTS = "/v2/models/swiglu/infer"
CODINGS = {"Accept-Encoding": "gzip, deflate, br"}
RAW = {"parameters": {"binary_data_output": True}}


def infer(*, raw=True, count=64, path=REQUESTS, headers=(), data=None, **rest):
    """Return the path, headers and body of an inference request."""
    arrays = {"a": A[:count], "b": B[:count]}
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [count]}
        | ({"parameters": {"binary_data_size": a.nbytes}} if raw else {"data": a.tolist()})
        for name, a in arrays.items()
    ]
    head = orjson.dumps({"inputs": inputs, **rest})
    if not raw:
        return path, {"Content-Type": JSON, **dict(headers)}, head
    data = b"".join(a.tobytes() for a in arrays.values()) if data is None else data
    given = {"Content-Type": OCTETS, LENGTH: str(len(head)), **dict(headers)}
    return path, given, head + data


def activate(count=64, **headers):
    arrays = {"a": A[:count], "b": B[:count]}
    body = safetensors.numpy.save(arrays, {"activation": "swiglu"})
    return "/activate", {"Content-Type": SAFETENSORS, **headers}, body


BOTH = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "dy_da"}]

FAST = {
    "binary": infer(),
    "binary, raw outputs": infer(**RAW),
    "binary, with an id and a timeout": infer(id="7", parameters={"timeout": 10**6}),
    "binary, one raw output": infer(path="/v2/models/swiglu.grad/infer", outputs=BOTH),
    "binary, of a version": infer(path="/v2/models/swiglu/versions/1/infer", **RAW),
    "binary, compressed": infer(headers=CODINGS),
    "binary, raw and compressed": infer(headers=CODINGS, count=64, **RAW),
    "one raw tensor without JSON": (
        "/v2/models/sinc/infer",
        {"Content-Type": OCTETS, LENGTH: "0"},
        A.tobytes(),
    ),
    "JSON": infer(raw=False),
    "JSON, short, codings accepted": infer(raw=False, count=4, headers=CODINGS),
    "JSON, long, codings accepted": infer(raw=False, headers=CODINGS),
    "JSON, long, deflate preferred": infer(
        raw=False, headers={"Accept-Encoding": "gzip;q=0.5, deflate"}
    ),
    "JSON, no coding accepted": infer(raw=False, headers={"Accept-Encoding": "identity"}),
    "safetensors": activate(),
    "safetensors, JSON accepted": activate(Accept=JSON),
}

DECLINED = {
    "wrong model": infer(path="/v2/models/none/infer"),
    "wrong path": infer(path="/v2/models/a/b/infer"),
    "too few bytes": infer(data=b"1234"),
    "too many bytes": infer(data=A.tobytes() + B.tobytes() + b"1"),
    "wrong length of the JSON": infer(headers={LENGTH: "x"}),
    "JSON longer than the body": infer(headers={LENGTH: "99999"}),
    "wrong parameter": infer(parameters={"timeout": -1}),
    "wrong output": infer(outputs=[{"name": "z"}]),
    "JSON with parameters": infer(raw=False, **RAW),
    "compressed body": infer(raw=False, headers={"Content-Encoding": "gzip"}),
    "too many codings": infer(raw=False, headers={"Accept-Encoding": ",".join(["gzip"] * 100)}),
    "wrong safetensors": ("/activate", {"Content-Type": SAFETENSORS}, b"12345678"),
    "wrong media type": ("/activate", {"Content-Type": "text/plain"}, b"{}"),
    "wrong accepted type": activate(Accept="text/html"),
}


@pytest.fixture(scope="module")
def fast(app):
    answer = fast_path(app)

    def ask(path, headers, body, waited=0.0):
        given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        came = time.perf_counter() - waited
        return answer(path, given, body, came, came, None)

    return ask


def parsed(head):
    lines = [line.split(b": ", 1) for line in head.removesuffix(b"\r\n\r\n").split(b"\r\n")]
    return [(name.decode(), value.decode()) for name, value in lines]


@pytest.mark.parametrize("sent", FAST.values(), ids=FAST)
def test_the_fast_answer_equals_the_other(client, fast, sent):
    path, headers, body = sent
    headers = {"Accept-Encoding": "", "X-Request-Id": "one-id"} | headers
    head, content = fast(path, headers, body)
    with client.stream("POST", path, headers=headers, content=body) as other:
        assert other.status_code == 200, other.read()
        assert content == b"".join(other.iter_raw())
        assert parsed(head) == list(other.headers.multi_items())


@pytest.mark.parametrize("sent", DECLINED.values(), ids=DECLINED)
def test_other_requests_are_declined(fast, sent):
    path, headers, body = sent
    assert fast(path, headers, body) is None


def test_a_request_past_its_own_timeout_is_declined(fast):
    sent = infer(parameters={"timeout": 10**7})
    assert fast(*sent) is not None
    assert fast(*sent, waited=20.0) is None
