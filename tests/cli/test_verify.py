"""Command `gatewave verify`: two files, a verdict in words or JSON, and an exit status."""

import json

import numpy as np
import onnx.parser
import pytest

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, 4] x) => (float[N, 4] y) { g = Sigmoid(x) y = Mul(x, g) }"""
OTHER = MODEL.replace("Sigmoid", "HardSigmoid")
SAME = MODEL.replace("Mul(x, g)", "Mul(g, x)")


@pytest.fixture
def saved(tmp_path):
    def save(text, name):
        path = tmp_path / name
        path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
        return path

    return save


@pytest.fixture
def original(saved):
    return saved(MODEL, "original.onnx")


def words(text):
    return " ".join(text.split())


def test_models_that_compute_the_same_are_said_to(run, original, saved):
    ended = run("verify", original, saved(SAME, "same.onnx"))
    assert ended.returncode == 0, ended.stderr
    assert "no difference found, sampled: 1 output compared in" in ended.stdout
    assert "original: run by ONNX Runtime" in ended.stdout


def test_models_that_differ_end_with_one_and_say_where(run, original, saved):
    ended = run("verify", original, saved(OTHER, "other.onnx"), "--site", "g")
    assert ended.returncode == 1
    said = words(ended.stdout)
    assert "different: y[" in said
    assert "→" in said
    assert "(normal" in said


def test_scripts_read_json(run, original, saved):
    ended = run("verify", original, saved(OTHER, "other.onnx"), "--json", "--seed", 3)
    assert ended.returncode == 1
    report = json.loads(ended.stdout)
    assert report["holds"] is False
    assert report["seed"] == 3
    assert report["outputs"][0]["difference"]["place"]["index"]


def test_tolerances_are_the_users_to_set(run, original, saved):
    other = saved(OTHER, "other.onnx")
    assert run("verify", original, other, "--rtol", 10).returncode == 0
    same = saved(MODEL, "same.onnx")
    assert run("verify", original, same, "--rtol", 0, "--atol", 0).returncode == 0


def test_real_inputs_are_read_from_a_file(run, original, saved, tmp_path):
    np.savez(tmp_path / "real.npz", x=np.ones((2, 4), np.float32))
    same = saved(MODEL, "same.onnx")
    ended = run("verify", original, same, "--inputs", tmp_path / "real.npz", "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["cases"][0] == "the inputs given"


@pytest.mark.parametrize("content", [b"no archive", None])
def test_inputs_that_are_none_are_a_wrong_request(run, original, tmp_path, content):
    path = tmp_path / "real.npz"
    if content:
        path.write_bytes(content)
    ended = run("verify", original, original, "--inputs", path)
    assert ended.returncode == 2
    assert "expected an .npz file of arrays" in words(ended.stderr)


def test_a_file_that_is_no_model_is_a_wrong_request(run, original, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(original.read_bytes()[:20])
    for pair in ([original, tmp_path / "broken.onnx"], [tmp_path / "none.onnx", original]):
        ended = run("verify", *pair)
        assert ended.returncode == 2
        assert ended.stderr.startswith("error: ")


def test_a_model_that_nothing_runs_ends_with_one_and_its_reason(run, saved):
    text = MODEL.replace('"" : 17', '"" : 17, "com.acme" : 1').replace("Sigmoid", "com.acme.Own")
    own = saved(text, "own.onnx")
    ended = run("verify", own, own)
    assert ended.returncode == 1
    assert "com.acme" in words(ended.stderr)
