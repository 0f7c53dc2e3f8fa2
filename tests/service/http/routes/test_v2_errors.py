"""Requests of the Open Inference Protocol that are refused: the status and the text."""

import asyncio
import gzip

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient
from oip_requests import LENGTH, SWIGLU, A, B, Y, answer, binary, raw_input, swiglu

from gatewave.service.serving.registry import Registry

X = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
WRONG = {
    "no JSON": "{",
    "no object": "[]",
    "no inputs": {},
    "an input that is no object": {"inputs": [1]},
    "no name": {"inputs": [{**X, "name": 1}]},
    "an unknown field": {"inputs": [{**X, "dtype": "FP32"}]},
    "an unknown datatype": {"inputs": [{**X, "datatype": "FLOAT"}]},
    "another datatype": {"inputs": [{**X, "datatype": "FP64"}]},
    "a shape that is negative": {"inputs": [{**X, "shape": [-1]}]},
    "a shape that is no list": {"inputs": [{**X, "shape": 1}]},
    "too many axes": {"inputs": [{**X, "shape": [1] * 17}]},
    "a shape that overflows": {"inputs": [{**X, "shape": [2**40, 2**40, 0], "data": []}]},
    "too few values": {"inputs": [{**X, "data": []}]},
    "too many values": {"inputs": [{**X, "data": [1, 2]}]},
    "values that are no numbers": {"inputs": [{**X, "data": ["1"]}]},
    "values that are none": {"inputs": [{**X, "data": [None]}]},
    "a value beyond the range": {"inputs": [{**X, "data": [1e39]}]},
    "a value beyond all ranges": '{"inputs":[{"name":"x","datatype":"FP64","shape":[1],'
    '"data":[1e400]}]}',
    "the same input twice": {"inputs": [X, X]},
    "an unknown input": {"inputs": [X, {**X, "name": "z"}]},
    "no data": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]},
    "an unknown output": {"inputs": [X], "outputs": [{"name": "z"}]},
    "an output twice": {"inputs": [X], "outputs": [{"name": "y"}, {"name": "y"}]},
    "outputs that are no list": {"inputs": [X], "outputs": {"name": "y"}},
    "parameters that are no object": {"inputs": [X], "parameters": []},
    "a timeout that is none": {"inputs": [X], "parameters": {"timeout": -1}},
    "a flag that is none": {"inputs": [X], "parameters": {"binary_data_output": 1}},
    "an id that is no string": {"inputs": [X], "id": 1},
    "NaN and deep nesting": '{"inputs":' + "[" * 100_000 + "NaN" + "]" * 100_000 + "}",
    "raw bytes that are not there": {"inputs": [{**X, "parameters": {"binary_data_size": 4}}]},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_400_and_one_text(client, body):
    content = body if isinstance(body, str) else orjson.dumps(body)
    response = client.post("/v2/models/sinc/infer", content=content)
    assert response.status_code == 400, response.text
    document = response.json()
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)


RAW = np.zeros(2, np.float32)
HEAD = {"inputs": [raw_input("x", RAW)]}


def sized(size):
    return {"inputs": [{**raw_input("x", RAW), "parameters": {"binary_data_size": size}}]}


WRONG_RAW = {
    "bytes left over": binary(HEAD, RAW.tobytes(), b"x"),
    "too few bytes": binary(HEAD, RAW.tobytes()[:-1]),
    "a size that is not the shape's": binary(sized(4), RAW.tobytes()[:4]),
    "a negative size": binary(sized(-8), RAW.tobytes()),
    "a size that is no number": binary(sized("8"), RAW.tobytes()),
    "a size that is true": binary(sized(True), RAW.tobytes()),
    "a huge size": binary(sized(2**63), RAW.tobytes()),
    "a length beyond the body": {"content": b"{}", "headers": {LENGTH: "3"}},
    "a length that is negative": {"content": b"{}", "headers": {LENGTH: "-1"}},
    "a length that is no number": {"content": b"{}", "headers": {LENGTH: "1e3"}},
    "a length of many digits": {"content": b"{}", "headers": {LENGTH: "9" * 5000}},
    "no gzip": {"content": b"{}", "headers": {"content-encoding": "gzip"}},
    "half of a gzip": {
        "content": gzip.compress(orjson.dumps({"inputs": [X]}))[:-4],
        "headers": {"content-encoding": "gzip"},
    },
    "an unknown coding": {"content": b"{}", "headers": {"content-encoding": "br"}},
}


@pytest.mark.parametrize("request_", WRONG_RAW.values(), ids=WRONG_RAW)
def test_raw_bytes_that_are_wrong_are_400_and_one_text(client, request_):
    response = client.post("/v2/models/sinc/infer", **request_)
    assert response.status_code == 400, response.text
    assert list(response.json()) == ["error"]


def test_a_bomb_is_stopped_at_the_limit(client):
    bomb = gzip.compress(b" " * (1 << 28))
    headers = {"content-encoding": "gzip"}
    response = client.post("/v2/models/sinc/infer", content=bomb, headers=headers)
    assert response.status_code == 413
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/swiglu/versions/2/infer", 404),
        ("POST", "/v2/models/swiglu/versions//infer", 404),
        ("POST", "/v2/models/a/b/infer", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/nothing/ready", 404),
        ("GET", "/v2/models/nothing/stats", 404),
        ("GET", "/v2/models/nothing/config", 404),
        ("GET", "/v2/nowhere", 404),
        ("GET", "/v2/models/swiglu/infer", 405),
        ("POST", "/v2/repository/models/swiglu/load", 403),
    ],
)
def test_other_errors_have_their_status_and_one_text(client, method, path, status):
    response = client.request(method, path, content=b"{}" if method == "POST" else None)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


def test_the_index_needs_no_repository(client):
    listed = client.post("/v2/repository/index").json()
    assert {"name": "swiglu", "version": "1", "state": "READY", "reason": ""} in listed


HALVES = {
    "id": '{"id":"\\ud800","inputs":[%s]}',
    "datatype": '{"inputs":[{"name":"x","datatype":"\\udfff","shape":[1],"data":[NaN]}]}',
    "a field": '{"inputs":[{"\\uD800x":NaN}]}',
    "an output": '{"inputs":[%s],"outputs":[{"name":"\\ud800"}]}',
}


@pytest.mark.parametrize("text", HALVES.values(), ids=HALVES)
def test_half_of_a_surrogate_pair_is_no_text(client, text):
    x = '{"name":"x","datatype":"FP32","shape":[1],"data":[NaN]}'
    content = text.replace("%s", x)
    response = client.post("/v2/models/sinc/infer", content=content)
    assert response.status_code == 400, response.text
    whole = content.replace("\\ud800", "\\ud83d\\ude00")
    if '"id"' in whole:
        assert client.post("/v2/models/sinc/infer", content=whole).json()["id"] == "\U0001f600"


@pytest.mark.parametrize(
    "parameters",
    [{"classification": 2}, {"shared_memory_region": "mine", "shared_memory_byte_size": 4}],
    ids=["classes", "shared memory"],
)
def test_what_is_not_served_is_refused_and_not_ignored(client, parameters):
    output = {"name": "y", "parameters": parameters}
    for body in (
        {"inputs": [X], "outputs": [output]},
        {"inputs": [{**X, "parameters": parameters}]},
    ):
        response = client.post("/v2/models/sinc/infer", json=body)
        assert (response.status_code, "not supported" in response.text) == (400, True)


@pytest.mark.parametrize(
    "nothing",
    [
        {"id": None},
        {"outputs": None},
        {"parameters": None},
        {"parameters": {"timeout": None, "binary_data_output": None}},
        {"inputs": [{**X, "parameters": {"binary_data_size": None}}]},
    ],
    ids=str,
)
def test_null_says_nothing(client, nothing):
    plain = client.post("/v2/models/sinc/infer", json={"inputs": [X]})
    response = client.post("/v2/models/sinc/infer", json={"inputs": [X], **nothing})
    assert (response.status_code, response.json()) == (200, plain.json())


class Guarded(Registry):
    """Registry that may be read on the event loop only."""

    def __iter__(self):
        asyncio.get_running_loop()
        return super().__iter__()

    def get(self, name, version=""):
        asyncio.get_running_loop()
        return super().get(name, version)


@pytest.mark.parametrize("path", ["models/stats", "models/sinc/stats"])
def test_models_may_come_and_go_while_statistics_are_told(app, client, monkeypatch, path):
    registry = Guarded(list(app.state.service.registry))
    monkeypatch.setattr(app.state.service, "registry", registry)
    assert client.get(f"/v2/{path}").status_code == 200


def test_a_timeout_that_has_passed_is_503(client):
    """A timeout of one microsecond is over before the request can start."""
    body = {"inputs": [X], "parameters": {"timeout": 1}}
    response = client.post("/v2/models/sinc/infer", json=body)
    assert response.status_code == 503
    assert "deadline" in response.json()["error"]


def test_the_routes_behind_the_shortcut_answer_the_same(app):
    routes = type(app).build_middleware_stack(app)

    async def routed(scope, receive, send):
        await routes({**scope, "app": app}, receive, send)

    with TestClient(routed) as direct:
        _, outputs = answer(direct.post(SWIGLU, json=swiglu()))
        np.testing.assert_allclose(outputs["y"], Y, rtol=1e-6)
        body = {"activation": "swiglu", "inputs": {"a": A, "b": B}}
        found = direct.post("/activate", json=body).json()["outputs"]["y"]
        np.testing.assert_allclose(found, Y, rtol=1e-6)
        assert direct.post("/activate", json={}).status_code == 422
