"""Commands `gatewave lower` and `gatewave doctor --probe`."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_models import unary


@pytest.fixture
def path(tmp_path):
    made = unary("Swish", alpha=1.702)
    made.opset_import[0].version = 28
    onnx.save(made, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_model_is_lowered_verified_and_written(run, path, tmp_path):
    before = path.read_bytes()
    with pytest.raises(Exception, match="Swish"):
        ort.InferenceSession(before)
    done = run("lower", path, "--target", "onnxruntime-1.32", "-o", tmp_path / "lowered.onnx")
    assert done.returncode == 0, done.stderr
    assert "Swish → Mul, Sigmoid, Mul" in done.stdout
    assert path.read_bytes() == before
    session = ort.InferenceSession(tmp_path / "lowered.onnx")
    x = np.linspace(-4, 4, 8, dtype=np.float32).reshape(4, 2)
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, x / (1 + np.exp(-1.702 * x)), rtol=1e-5, atol=1e-6)


def test_the_report_is_json_and_the_name_says_the_target(run, path):
    done = run("lower", path, "--target", "onnxruntime-1.31", "--json")
    report = json.loads(done.stdout)
    assert report["written"] == str(path.with_name("model.onnxruntime-1.31.onnx"))
    assert report["target"] == "onnxruntime-1.31-cpu"
    assert [change["kind"] for change in report["changes"]] == ["opset", "swish"]
    assert report["verified"]["holds"]


def test_this_is_the_installed_runtime(run, path, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run("lower", path, "--target", "this", "--no-verify", **cache)
    assert done.returncode == 0, done.stderr
    assert f"this (onnxruntime {ort.__version__}, cpu)" in done.stdout
    assert "not verified" in done.stdout
    assert path.with_name("model.this.onnx").exists()


def test_an_unknown_target_is_a_bad_request(run, path):
    done = run("lower", path, "--target", "onnxruntme")
    assert done.returncode == 2
    assert "did you mean onnxruntime" in done.stderr


def test_a_target_out_of_reach_leaves_nothing(run, path, tmp_path):
    onnx.save(unary("Hardmax", kind=onnx.TensorProto.DOUBLE), path)
    done = run("lower", path, "--target", "onnxruntime")
    assert done.returncode == 2
    assert "does not run Hardmax" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_the_probe_is_a_table_or_json(run, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    table = run("doctor", "--probe", **cache)
    assert table.returncode == 0, table.stderr
    (mish,) = [line.split() for line in table.stdout.splitlines() if line.startswith("Mish")]
    answer = json.loads(run("doctor", "--probe", "--json", **cache).stdout)
    assert answer["version"] == ort.__version__
    ran = {
        row["opset"]
        for row in answer["rows"]
        if (row["operator"], row["dtype"], row["outcome"]) == ("Mish", "float32", "runs")
    }
    assert mish[3] == f"{min(ran)}–{max(ran)}"
