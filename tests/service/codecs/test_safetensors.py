"""POST /activate with safetensors: the same answers, bit for bit."""

import json
import math

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

MEDIA_TYPE = "application/vnd.safetensors"
NUMPY = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}


def body(tensors, **metadata):
    return safetensors.numpy.save(tensors, metadata)


def post(client, content, **headers):
    return client.post(
        "/activate", content=content, headers={"content-type": MEDIA_TYPE, **headers}
    )


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0, 3)])
def test_the_answer_is_the_json_answer_exactly(client, activate, dtype, shape):
    points = np.linspace(-2, 2, math.prod(shape)).reshape(shape)
    a, b = np.asarray(points, NUMPY[dtype]), np.asarray(points + 0.5, NUMPY[dtype])
    outputs = ["y", "dy_da", "dy_db"]
    sent = body({"a": a, "b": b}, activation="swiglu", outputs=json.dumps(outputs))
    response = post(client, sent)
    assert response.headers["content-type"] == MEDIA_TYPE
    found = safetensors.torch.load(response.content)
    lists = {name: t.astype(np.float64).tolist() for name, t in {"a": a, "b": b}.items()}
    want = activate("swiglu", lists, dtype=dtype, outputs=outputs)["outputs"]
    for name in outputs:
        assert str(found[name].dtype) == f"torch.{dtype}"
        assert found[name].shape == shape
        assert found[name].flatten().tolist() == np.array(want[name], NUMPY[dtype]).ravel().tolist()


def test_metadata_carry_the_request_and_name_the_formula(client, tmp_path):
    x = np.array([0.5, -1.5], np.float32)
    sent = body({"a": x, "b": x}, activation="swiglu", params='{"gate": "linear", "alpha": 2}')
    file = tmp_path / "answer.safetensors"
    file.write_bytes(post(client, sent).content)
    with safetensors.safe_open(file, "numpy") as answer:
        metadata = answer.metadata()
        y = answer.get_tensor("y")
    assert metadata["activation"] == "swiglu"
    assert metadata["dtype"] == "float32"
    assert r"\alpha" in metadata["formula"]
    np.testing.assert_allclose(y, x * x / (1 + np.exp(-2 * x)), rtol=1e-6)


def test_accept_chooses_the_media_type_of_the_answer(client):
    sent = body({"x": np.array([0.5], np.float32)}, activation="sinc")
    assert post(client, sent, accept="application/json").json()["outputs"]["y"] == [
        pytest.approx(2 / np.pi)
    ]
    back = client.post(
        "/activate",
        json={"activation": "sinc", "inputs": {"x": [0.5]}},
        headers={"accept": f"text/html;q=0.9, {MEDIA_TYPE}"},
    )
    assert safetensors.numpy.load(back.content)["y"] == pytest.approx(2 / np.pi)


def test_a_tensor_that_lies_unaligned_is_read_rightly(client):
    header = b'{"x":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},'
    header += b'"__metadata__":{"activation":"bilinear"}}'
    header = header.replace(b"bilinear", b"sinc")
    header += b" " * ((3 - len(header)) % 8)
    sent = len(header).to_bytes(8, "little") + header + np.array([0.5, 1.0]).tobytes()
    response = post(client, sent)
    assert response.status_code == 200, response.text
    y = safetensors.numpy.load(response.content)["y"]
    np.testing.assert_allclose(y, [2 / np.pi, 0], atol=1e-15)


FLOATS = {"x": np.array([0.5, 1.0], np.float32)}
GOOD = body(FLOATS, activation="sinc")


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        pytest.param(b"", 400, "body", id="empty"),
        pytest.param(GOOD[:7], 400, "body", id="cut-in-the-length"),
        pytest.param(GOOD[:40], 400, "body", id="cut-in-the-header"),
        pytest.param(GOOD[:-1], 400, "x.data_offsets", id="cut-in-the-tensor"),
        pytest.param(GOOD + b"!", 400, "body", id="bytes-left-over"),
        pytest.param(b"\xff" * 8 + GOOD, 400, "body", id="length-of-2^64"),
        pytest.param(GOOD[:8] + b"[" + GOOD[9:], 400, "body", id="header-not-json"),
        pytest.param(b"\x02" + b"\0" * 7 + b"[]", 400, "body", id="header-a-list"),
        pytest.param(body({"x": np.array([1])}, activation="sinc"), 400, "x.dtype", id="integers"),
        pytest.param(body(FLOATS), 422, "activation", id="no-activation"),
        pytest.param(body(FLOATS, activation="no"), 404, "activation", id="unknown-activation"),
        pytest.param(
            body(FLOATS, activation="sinc", dtype="float64"), 422, "dtype", id="another-dtype"
        ),
        pytest.param(
            body(FLOATS, activation="sinc", color="red"),
            422,
            "__metadata__.color",
            id="unknown-key",
        ),
        pytest.param(
            body(FLOATS, activation="sinc", outputs="y"), 422, "__metadata__.outputs", id="not-json"
        ),
        pytest.param(body({}, activation="sinc"), 422, "inputs.x", id="no-tensors"),
        pytest.param(
            body({"a": np.ones(2, np.float32), "b": np.ones(2)}, activation="glu"),
            422,
            "inputs.a",  # the library writes wider elements first: a comes after b
            id="mixed-dtypes",
        ),
        pytest.param(
            body({"x": np.ones((1,) * 20, np.float32)}, activation="sinc"),
            422,
            "x.shape",
            id="too-many-axes",
        ),
        pytest.param(
            body({"x": np.ones(10_001, np.float32)}, activation="sinc"),
            422,
            "inputs",
            id="too-many-elements",
        ),
    ],
)
def test_a_file_that_is_wrong_is_a_problem_that_names_the_field(client, content, status, field):
    response = post(client, content)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [0, 2**64 - 1], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [False, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]},
        {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": 3, "shape": [1], "data_offsets": [0, 4]},
        None,
    ],
)
def test_a_header_that_lies_is_a_problem(client, entry):
    header = json.dumps({"x": entry, "__metadata__": {"activation": "sinc"}}).encode()
    response = post(client, len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    assert response.status_code == 400, response.text
    assert response.json()["errors"][0]["field"].startswith("x")


def test_metadata_that_are_no_strings_are_a_problem(client):
    header = json.dumps({"__metadata__": {"activation": 3}}).encode()
    response = post(client, len(header).to_bytes(8, "little") + header)
    assert response.json()["errors"][0]["field"] == "__metadata__"


def test_mutated_files_are_answered_with_200_or_4xx(client):
    random = np.random.default_rng(0)
    for _ in range(500):
        content = bytearray(GOOD)
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        response = post(client, bytes(content[: random.integers(len(content) + 1)] or content))
        assert response.status_code == 200 or 400 <= response.status_code < 500, bytes(content)
