"""Open Inference Protocol over HTTP; the real clients are in tests/conformance."""

import contextlib
import gzip
import json
import shutil
import subprocess
import zlib

import numpy as np
import orjson
import pytest
from oip_requests import LENGTH, SWIGLU, A, B, Y, answer, binary, raw_input, strings, swiglu, tensor
from onnx import TensorProto
from onnx_models import unary
from repository_models import added

from gatewave.service.serving.model import Batching


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
