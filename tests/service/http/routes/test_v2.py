"""Open Inference Protocol over HTTP; the real clients are in tests/conformance."""

import asyncio
import contextlib
import gzip
import json
import random
import shutil
import subprocess
import zlib

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto
from onnx_models import unary
from repository_models import added

from gatewave.service.app import create_app
from gatewave.service.errors import BodyMalformed, BodyTooLong
from gatewave.service.http.compression import PIECE, Decompression, accepted
from gatewave.service.oip.json import InferRequest
from gatewave.service.serving.model import Batching
from gatewave.service.serving.registry import Registry

A = [0.5, -1, 2, -2]
B = [1, -1, 0, 2]
Y = [0.22752711, -0.07232949, 0.8807971, -0.20998715]
LENGTH = "inference-header-content-length"
SWIGLU = "/v2/models/swiglu/infer"


def tensor(name, values, shape=None, datatype="FP32", **more):
    return {
        "name": name,
        "datatype": datatype,
        "shape": [len(values)] if shape is None else shape,
        "data": values,
        **more,
    }


def swiglu(**more):
    return {"inputs": [tensor("a", A), tensor("b", B)], **more}


def binary(document, *raw):
    """Return the body of a document with raw tensors, and the header with the document's length."""
    head = document if isinstance(document, bytes) else orjson.dumps(document)
    return {"content": head + b"".join(raw), "headers": {LENGTH: str(len(head))}}


def raw_input(name, array):
    return {
        "name": name,
        "datatype": "FP32",
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }


def answer(response):
    """Return the outputs of an answer by name, raw ones included."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.content)))
    document = json.loads(response.content[:length])
    position = length
    outputs = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = np.array(output["data"], np.float32)
        else:
            flat = np.frombuffer(response.content[position : position + size], np.float32)
            position += size
        outputs[output["name"]] = flat.reshape(output["shape"])
    assert position == len(response.content)
    return document, outputs


def test_the_server_says_what_it_speaks(client):
    document = client.get("/v2").json()
    assert document["name"] == "gatewave"
    assert "binary_tensor_data" in document["extensions"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/swiglu/ready", {"name": "swiglu", "ready": True}),
    ],
)
def test_health_is_a_status_and_said_again_in_the_body(client, path, said):
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, said)


def test_a_model_tells_its_inputs_and_outputs(client):
    document = client.get("/v2/models/sinc.grad.float64").json()
    assert document == {
        "name": "sinc.grad.float64",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
        "outputs": [
            {"name": "y", "datatype": "FP64", "shape": [-1]},
            {"name": "dy_dx", "datatype": "FP64", "shape": [-1]},
        ],
    }


def test_a_model_tells_its_configuration(client):
    document = client.get("/v2/models/swiglu/config").json()
    assert document["input"][0] == {"name": "a", "data_type": "TYPE_FP32", "dims": [-1]}
    assert document["max_batch_size"] == 0


def test_the_worked_example(client):
    document, outputs = answer(client.post(SWIGLU, json=swiglu(id="seven")))
    assert document["model_name"] == "swiglu"
    assert document["model_version"] == "1"
    assert document["id"] == "seven"
    np.testing.assert_allclose(outputs["y"], Y, rtol=1e-6)


@pytest.mark.parametrize("shape", [[2, 2], [4, 1], [1, 2, 2]])
def test_values_may_be_flat_or_nested(client, shape):
    nested = np.array(A).reshape(shape).tolist()
    body = {"inputs": [tensor("a", nested, shape), tensor("b", B, shape)]}
    _, outputs = answer(client.post(SWIGLU, json=body))
    assert outputs["y"].shape == tuple(shape)
    np.testing.assert_allclose(outputs["y"].ravel(), Y, rtol=1e-6)


def test_scalars_and_empty_tensors(client):
    body = {"inputs": [tensor("x", [0.5], [])]}
    _, outputs = answer(client.post("/v2/models/sinc/infer", json=body))
    assert outputs["y"] == pytest.approx(0.63661975)
    body = {"inputs": [tensor("x", [], [0, 3])]}
    _, outputs = answer(client.post("/v2/models/sinc/infer", json=body))
    assert outputs["y"].shape == (0, 3)


def test_a_version_may_be_named(client):
    response = client.post("/v2/models/swiglu/versions/1/infer", json=swiglu())
    assert response.json()["model_version"] == "1"


def test_the_numbers_of_a_model_are_parameters(client):
    body = {"inputs": [tensor("x", [1.0])], "parameters": {"alpha": 1.702}}
    _, outputs = answer(client.post("/v2/models/swish/infer", json=body))
    assert outputs["y"][0] == pytest.approx(1 / (1 + np.exp(-1.702)), rel=1e-6)


@pytest.mark.parametrize("form", ["whole", "by output"])
def test_raw_tensors_both_ways(client, form):
    arrays = np.array([A, B], np.float32)
    head = {"inputs": [raw_input("a", arrays[0]), raw_input("b", arrays[1])]}
    if form == "whole":
        head["parameters"] = {"binary_data_output": True}
    else:
        head["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    response = client.post(SWIGLU, **binary(head, arrays[0].tobytes(), arrays[1].tobytes()))
    assert response.headers["content-type"] == "application/octet-stream"
    _, outputs = answer(response)
    np.testing.assert_allclose(outputs["y"], Y, rtol=1e-6)


def test_raw_and_written_tensors_may_be_mixed(client):
    b = np.array(B, np.float32)
    head = {"inputs": [tensor("a", A), raw_input("b", b)]}
    response = client.post(SWIGLU, **binary(head, b.tobytes()))
    assert LENGTH not in response.headers
    _, outputs = answer(response)
    np.testing.assert_allclose(outputs["y"], Y, rtol=1e-6)


def test_what_an_output_says_goes_before_what_the_request_says(client):
    body = {
        "inputs": [tensor("x", A)],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "dy_dx", "parameters": {"binary_data": False}}, {"name": "y"}],
    }
    document, outputs = answer(client.post("/v2/models/sinc.grad/infer", json=body))
    assert list(outputs) == ["dy_dx", "y"]
    assert "data" in document["outputs"][0]
    assert "data" not in document["outputs"][1]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_and_answers_may_be_compressed(client, coding, pack):
    n = 1000
    body = pack(orjson.dumps({"inputs": [tensor("x", [0.5] * n)]}))
    headers = {"content-encoding": coding, "accept-encoding": coding}
    response = client.post("/v2/models/sinc/infer", content=body, headers=headers)
    assert response.headers["content-encoding"] == coding
    _, outputs = answer(response)
    assert outputs["y"].shape == (n,)


SPECIAL = '["NaN","Infinity","-Infinity",NaN,Infinity,-Infinity,0.5]'


def special(shape="[7]", datatype="FP32", data=SPECIAL):
    one = f'{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}'
    return f'{{"inputs":[{one}]}}'


def strict(text):
    """Return the document in ``text``, which must be JSON without bare NaN and Infinity."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_non_finite_numbers_are_written_as_words(client, datatype):
    """NumPy reads the words; Python's clients build their arrays with it."""
    suffix = {"FP16": ".float16", "FP64": ".float64"}.get(datatype, "")
    response = client.post(f"/v2/models/swish{suffix}/infer", content=special(datatype=datatype))
    (output,) = strict(response.text)["outputs"]
    assert output["data"][:6] == ["NaN", "Infinity", "NaN"] * 2
    array = np.array(output["data"], np.float32)
    np.testing.assert_array_equal(array[:6], [np.nan, np.inf, np.nan] * 2)


def test_words_are_numbers_of_floats_only(client, words):
    for datatype, data in (("FP32", '["nan"]'), ("FP32", '["Inf"]'), ("INT32", '["NaN"]')):
        response = client.post("/v2/models/sinc/infer", content=special("[1]", datatype, data))
        assert response.status_code == 400
    response = client.post(f"/v2/models/{words}/infer", content=special("[1]", "BYTES", '["NaN"]'))
    assert response.json()["outputs"][0]["data"] == ["NaN"]


def test_words_may_be_nested(client):
    content = special("[2,2]", data='[["NaN",0.0],["Infinity",NaN]]')
    _, outputs = answer(client.post("/v2/models/sinc/infer", content=content))
    np.testing.assert_array_equal(outputs["y"], [[np.nan, 1], [0, np.nan]])


def test_node_reads_non_finite_numbers(client):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js")
    response = client.post("/v2/models/swish/infer", content=special())
    script = """
        const answer = JSON.parse(require("fs").readFileSync(0, "utf8"));
        console.log(Array.from(Float32Array.from(answer.outputs[0].data)).slice(0, 3).join());
    """
    done = subprocess.run(
        [node, "-e", script], input=response.text, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "NaN,Infinity,NaN"


def test_bfloat16_has_bare_words(client):
    """Only Python's clients read BF16 from JSON, with ml_dtypes, which accepts numbers only."""
    content = special(datatype="BF16", data='[NaN,"Infinity"]', shape="[2]")
    response = client.post("/v2/models/swish.bfloat16/infer", content=content)
    assert b"[NaN,Infinity]" in response.content


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("[[1,2,3],[4]]", "inputs[0].data[1]: expected a list of 3, as its neighbours"),
        ("[[1],[2,3]]", "inputs[0].data[1]: expected a list of 1"),
        ("[[[1],[2]],[[3],[4,5]]]", "inputs[0].data[1][1]: expected a list of 1"),
        ("[[1,2],3,4]", "inputs[0].data[1]: expected a list of 2"),
        ("[1,[2,3],4,5]", "inputs[0].data[1]: expected a number"),
        ("[" * 500 + "1" + "]" * 500, "inputs[0].data: expected at most 16 nested lists"),
        ("[" * 500 + "NaN" + "]" * 500, "body: expected JSON at most 64 deep"),
        ("[" * 20 + "NaN" + "]" * 20, "inputs[0].data: expected at most 16 nested lists"),
        ("[" * 17 + "1" + "]" * 17, "inputs[0].data: expected at most 16 nested lists"),
    ],
)
def test_lists_that_are_ragged_or_too_deep_are_refused(client, data, said):
    response = client.post("/v2/models/sinc/infer", content=special("[4]", data=data))
    assert (response.status_code, said in response.json()["error"]) == (400, True), response.text


@pytest.mark.parametrize("data", ["[1,2,3,4]", "[[1,2],[3,4]]", "[[[1],[2],[3],[4]]]"])
def test_even_lists_need_not_have_the_tensors_shape(client, data):
    """Triton accepts them as well."""
    _, outputs = answer(client.post("/v2/models/sinc/infer", content=special("[4]", data=data)))
    assert outputs["y"].shape == (4,)


def test_the_servers_metadata_are_where_the_protocols_document_has_them(client):
    assert client.get("/v2/").json() == client.get("/v2").json()
    assert client.get("/v2/models/").status_code == 404


WHOLE = {"headers": {LENGTH: "0", "content-type": "application/octet-stream"}}


@pytest.fixture
def serve(app, tmp_path):
    """Return a function that serves an ONNX model until the test ends, and returns its path."""
    with contextlib.ExitStack() as stack:

        def serve(made, batching=None):
            stack.enter_context(added(app.state.service, tmp_path, "whole", made, batching))
            return "/v2/models/whole/infer"

        yield serve


def test_a_body_may_be_the_tensor_of_the_only_input(client):
    x = np.array([0.5, 0, 1.5], np.float32)
    response = client.post("/v2/models/sinc/infer", content=x.tobytes(), **WHOLE)
    assert response.headers["content-type"] == "application/octet-stream"
    _, outputs = answer(response)
    np.testing.assert_allclose(outputs["y"], np.sinc(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "batching", "deduced"),
    [
        (["n"], None, [24]),
        (["n", 4], None, [6, 4]),
        ([2, "n", 4], None, [2, 3, 4]),
        ([4, 6], None, [4, 6]),
        (["n", 4], Batching(8), [6, 4]),
        (["n", "m"], Batching(8), [1, 24]),
        (None, None, [24]),
    ],
    ids=str,
)
def test_one_open_size_is_deduced(client, serve, shape, batching, deduced):
    path = serve(unary("Identity", shape), batching)
    x = np.arange(24, dtype=np.float32)
    document, outputs = answer(client.post(path, content=x.tobytes(), **WHOLE))
    assert document["outputs"][0]["shape"] == deduced
    np.testing.assert_array_equal(outputs["y"].ravel(), x)


@pytest.mark.parametrize("shape", [["n"], [1], ["n", 1], []], ids=str)
def test_a_body_of_bytes_is_one_string(client, serve, shape):
    path = serve(unary("Identity", shape, TensorProto.STRING))
    response = client.post(path, content="wörd".encode(), **WHOLE)
    assert response.status_code == 200, response.text
    assert response.content.endswith(strings("wörd".encode()))


@pytest.mark.parametrize(
    ("shape", "kind", "content", "said"),
    [
        (["n", "m"], TensorProto.FLOAT, bytes(8), "more than one size of the input is open"),
        ([3], TensorProto.FLOAT, bytes(8), "expected 12 bytes, for FP32 of shape [3], got 8 bytes"),
        (["n", 4], TensorProto.FLOAT, bytes(24), "expected 16 bytes"),
        (["n"], TensorProto.FLOAT, bytes(9), "expected 8 bytes"),
        (["n"], TensorProto.FLOAT, bytes(40_004), "at most 10000 numbers"),
        ([2], TensorProto.STRING, b"ab", "expected JSON: 2 BYTES, got one string"),
        (["n"], TensorProto.STRING, b"\xff", "BYTES that are UTF-8"),
    ],
    ids=str,
)
def test_a_body_that_is_no_tensor_of_the_input_is_refused(
    client, serve, shape, kind, content, said
):
    response = client.post(serve(unary("Identity", shape, kind)), content=content, **WHOLE)
    assert (response.status_code, said in response.json()["error"]) == (400, True), response.text


def test_a_raw_body_needs_a_model_with_one_input(client):
    response = client.post(SWIGLU, content=bytes(8), **WHOLE)
    assert "body: expected JSON that names the inputs: swiglu has 2" in response.json()["error"]


@pytest.mark.parametrize("digits", [310, 4000])
def test_an_integer_of_many_digits_is_no_finite_number(client, digits):
    one = '{"name":"x","datatype":"FP32","shape":[1],"data":[NaN]}'
    content = f'{{"inputs":[{one}],"parameters":{{"alpha":1{"0" * digits}}}}}'
    response = client.post("/v2/models/swish/infer", content=content)
    assert (response.status_code, "a finite number" in response.text) == (400, True)


def test_statistics_count_what_was_done(client):
    before = client.get("/v2/models/glu/stats").json()["model_stats"][0]
    answer(client.post("/v2/models/glu/infer", json=swiglu()))
    client.post("/v2/models/glu/infer", json={"inputs": []})
    after = client.get("/v2/models/glu/stats").json()["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["execution_count"] == before["execution_count"] + 1
    old, new = before["inference_stats"], after["inference_stats"]
    assert new["success"]["count"] == old["success"]["count"] + 1
    assert new["success"]["ns"] > old["success"]["ns"]
    assert new["fail"]["count"] == old["fail"]["count"] + 1
    assert new["compute_infer"]["ns"] > old["compute_infer"]["ns"]
    assert after["last_inference"] > before["last_inference"]
    everything = client.get("/v2/models/stats").json()["model_stats"]
    assert {"swiglu", "glu"} <= {each["name"] for each in everything}


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


def strings(*items):
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)


def raw_strings(count, *items, datatype=b"BYTES"):
    """Return a request of raw strings."""
    data = strings(*items)
    head = (
        b'{"inputs":[{"name":"x","datatype":"%b","shape":[%d],'
        b'"parameters":{"binary_data_size":%d}}]}' % (datatype, count, len(data))
    )
    return binary(head, data)


@pytest.fixture(scope="module")
def words(app, tmp_path_factory):
    """Name of a model that returns its strings."""
    made = unary("Identity", ["n"], TensorProto.STRING)
    with added(app.state.service, tmp_path_factory.mktemp("words"), "words", made):
        yield "words"


@pytest.mark.parametrize(
    ("count", "items", "said"),
    [
        (10_001, [b"\xff"] * 10_001, "at most 10000 numbers"),
        (1, [b"right", b"\xff"], "1 BYTES, for the shape"),
        (2, [b"only"], "a length before each"),
        (5, [b"only"], "5 BYTES, each after its length"),
        (1, [b"\xff"], "UTF-8"),
    ],
)
def test_no_more_strings_are_read_than_the_shape_says_and_the_limit_allows(
    client, words, count, items, said
):
    response = client.post(f"/v2/models/{words}/infer", **raw_strings(count, *items))
    assert said in response.json()["error"]


def test_tensors_of_another_datatype_are_refused_before_they_are_read(client):
    response = client.post("/v2/models/sinc/infer", **raw_strings(1, b"\xff"))
    assert response.json()["error"] == 'inputs.x.datatype: expected FP32, got "BYTES"'


@pytest.fixture(scope="module")
def narrow(settings):
    """Service with 4 MB and one busy lane: all work for a lane is refused."""
    limits = {"inline_bytes": 1 << 12, "lanes": 1, "max_queue": 0, "max_memory_bytes": 1 << 22}
    app = create_app(settings.model_copy(update=limits))
    with TestClient(app) as client:
        client.portal.call(app.state.service.pipeline.worker_pool.acquire)
        yield client


@pytest.mark.parametrize("datatype", [b"BYTES", b"BYT\\u0045S"])
def test_many_raw_strings_are_read_in_a_lane(narrow, datatype):
    few = raw_strings(10, *[b"abc"] * 10, datatype=datatype)
    many = raw_strings(1000, *[b"abc"] * 1000, datatype=datatype)
    assert narrow.post("/v2/models/sinc/infer", **few).status_code == 400
    response = narrow.post("/v2/models/sinc/infer", **many)
    assert (response.status_code, "waiting" in response.text) == (503, True)


def test_raw_strings_weigh_what_they_take(narrow):
    request = raw_strings(100_000, *[b""] * 100_000)
    response = narrow.post("/v2/models/sinc/infer", **request)
    assert (response.status_code, "in use" in response.text) == (503, True)


def test_a_shape_of_a_million_axes_is_refused_at_once(client):
    shape = [2**62] * 200_000
    head = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": shape}]}
    response = client.post("/v2/models/sinc/infer", **binary(head))
    assert "at most 16 axes" in response.json()["error"]


def test_strings_are_written_one_by_one_raw_ones_too():
    words = np.array(["a", "b"], object)
    outputs = {"word": words, "number": np.ones(2)}
    assert InferRequest({}, all_raw=True).written(outputs) == words.nbytes
    assert InferRequest({}).written(outputs) == words.nbytes + 16


def zipped(length):
    """Return a body of spaces, compressed to a thousandth of its size."""
    return {"content": gzip.compress(b" " * length), "headers": {"content-encoding": "gzip"}}


@pytest.mark.parametrize("length", [2000, 5 << 20])
def test_large_bodies_are_decompressed_in_a_lane(narrow, length):
    response = narrow.post("/v2/models/sinc/infer", **zipped(length))
    assert (response.status_code, "requests are waiting" in response.text) == (503, True)


@pytest.fixture(scope="module")
def poor(settings):
    limits = {"max_memory_bytes": 1 << 22, "max_json_bytes": 1 << 21}
    with TestClient(create_app(settings.model_copy(update=limits))) as client:
        yield client


def test_compressed_bodies_hold_their_decompressed_size(poor):
    # It might come to 2 MiB, which with the weight of JSON are more than there are.
    values = [round(random.random(), 6) for _ in range(10_000)]  # noqa: S311 - nothing is secret
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": values}
    body = gzip.compress(json.dumps({"inputs": [tensor]}).encode())
    response = poor.post(
        "/v2/models/sinc/infer", content=body, headers={"content-encoding": "gzip"}
    )
    assert (response.status_code, response.json()["outputs"][0]["shape"]) == (200, [10_000])


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "zlib"])
def test_bodies_are_decompressed_piece_by_piece(length, compress):
    said = random.Random(length).randbytes(length)  # noqa: S311 - nothing is secret
    source = Decompression(compress(said), length)
    lengths = []
    while count := source.next():
        lengths.append(count)
    assert (source.whole, sum(lengths)) == (said, length)
    assert max(lengths) <= 2 * PIECE
    with pytest.raises(BodyTooLong):
        exhaust(Decompression(compress(said), length - 1))
    for wrong in (compress(said)[:-1], compress(said) + b"x", b"", b"x"):
        with pytest.raises(BodyMalformed):
            exhaust(Decompression(wrong, length))


def exhaust(source):
    while source.next():
        pass


def test_json_weighs_the_same_whether_it_came_compressed_or_not(poor):
    small, large = zipped(100_000), zipped(1_000_000)
    assert poor.post("/v2/models/sinc/infer", **small).status_code == 400
    for request in (large, {"content": gzip.decompress(large["content"])}):
        response = poor.post("/v2/models/sinc/infer", **request)
        assert (response.status_code, "in use" in response.text) == (503, True)


@pytest.mark.parametrize("part", ["[],", "{},", "[1],"])
@pytest.mark.parametrize("path", ["/activate", "/activate/batch", "/v2/models/sinc/infer"])
def test_json_of_many_lists_holds_its_parsed_size(poor, path, part):
    content = f'{{"inputs":{{"x":[{part * (300_000 // len(part))}1]}}}}'
    response = poor.post(path, content=content)
    assert (response.status_code, "in use" in response.text) == (503, True)
    flat = f'{{"inputs":{{"x":[{"1," * 150_000}1]}}}}'
    assert poor.post(path, content=flat).status_code in {400, 422}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("gzip", "gzip"),
        ("br, Deflate, gzip", "deflate"),
        ("deflate;q=0.5, gzip; q=0.75", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.00", None),
        ("gzip;q=0.000, deflate;q=0.001", "deflate"),
        ("gzip;q=much", None),
        ("identity", None),
    ],
)
def test_an_answer_is_compressed_as_its_caller_weighs(header, coding):
    assert accepted(header) == coding
