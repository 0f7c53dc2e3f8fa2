"""Output of `gatewave inspect --target` and `gatewave lower` about a target."""

import json

import fake_runtimes
import onnx
import onnxruntime as ort
import pytest
from onnx_models import unary

from gatewave.certificates.runtimes import environments


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "runtimes"))

    def saved(operator, kind=onnx.TensorProto.FLOAT, **attributes):
        onnx.save(unary(operator, kind=kind, **attributes), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return saved


def target_of(ended):
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["target"]


def test_a_model_that_the_target_loads_runs(run, model):
    said = run("inspect", model("Tanh"), "--target", "this").stdout.splitlines()[-1]
    assert said.endswith(f"runs it: ONNX Runtime {ort.__version__} loaded it")


def test_a_node_that_the_target_refuses_is_a_problem(run, model):
    path = model("Tan", onnx.TensorProto.DOUBLE)
    for name in ("this", "onnxruntime-1.24", "onnxruntime-1.32"):
        found = target_of(run("inspect", path, "--target", name, "--json"))
        assert found["verdict"] == "does not run"
        assert found["problems"][0]["operator"] == "Tan"


def test_what_was_not_tried_is_not_known(run, model):
    path = model("Softsign")
    said = run("inspect", path, "--target", "tvm").stdout
    assert "runs it" not in said
    assert "it is not known whether tvm-0.27 runs Softsign at opset 17 in float32 (at y)" in said
    assert "not known: whether tvm-0.27 runs 1 operator of it" in said.splitlines()[-1]
    found = target_of(run("inspect", path, "--target", "tvm", "--json"))
    assert found["verdict"] == "not known"
    assert [problem["known"] for problem in found["problems"]] == [False]


def test_a_table_is_named_where_it_is_all_that_is_known(run, model):
    said = run("inspect", model("Softsign"), "--target", "onnxruntime-1.24").stdout
    assert "each of its nodes was loaded by ONNX Runtime 1.24.4" in said
    assert "onnxruntime-1.24-cpu is not installed here" in said


@pytest.fixture
def mixed(model):
    """Return a function that saves Softsign or Tan of a Swish; the Swish is written out for TVM."""

    def saved(operator, kind):
        path = model("Swish", kind)
        made = onnx.load(path)
        made.opset_import[0].version = 24
        made.graph.node[0].output[0] = "s"
        made.graph.node.append(onnx.helper.make_node(operator, ["s"], ["y"]))
        onnx.save(made, path)
        return path

    return saved


def test_lowering_says_what_ran_the_result_and_that_the_target_did_not(run, mixed):
    done = run("lower", mixed("Softsign", onnx.TensorProto.FLOAT), "--target", "tvm")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert "run by ONNX Runtime alone; not known: tvm-0.27 is not installed here" in last
    assert "not known: whether tvm-0.27 runs 1 operator of it" in last


def test_results_of_the_reference_evaluator_are_only_sampled(run, mixed):
    done = run("lower", mixed("Tan", onnx.TensorProto.DOUBLE), "--target", "tvm")
    last = done.stdout.splitlines()[-1]
    assert "run by the onnx reference evaluator alone; not known: tvm-0.27" in last
    assert "proven" not in last


def test_an_unchanged_model_is_not_called_run_by_the_target(run, model):
    done = run("lower", model("Tan", onnx.TensorProto.DOUBLE), "--target", "tvm", "--json")
    assert json.loads(done.stdout)["judged"]["verdict"] == "not known"


REFUSES = f"if isinstance(model, str): raise RuntimeError('core.cpp:84: {'x' * 200} no room')"


@pytest.fixture
def refusing(tmp_path):
    """Environment of ONNX Runtime 1.27 that loads every node but no model."""
    home = tmp_path / "runtimes" / "onnxruntime-1.27"
    fake_runtimes.python(home / "bin", load=REFUSES, version="1.27.0")
    fake_runtimes.mark_installed(home, "onnxruntime-1.27")


@pytest.mark.usefixtures("refusing")
def test_a_result_that_the_target_refuses_is_not_written(run, model, tmp_path):
    done = run("lower", model("Tanh"), "--target", "onnxruntime-1.27")
    assert done.returncode == 1
    reason = f"core.cpp:84: {'x' * 200} no room"
    assert f"ONNX Runtime 1.27.0 does not load the model: {reason}" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "runtimes"}


@pytest.mark.usefixtures("refusing")
def test_a_result_that_is_refused_is_written_if_it_is_asked_for(run, model):
    path = model("Tanh")
    done = run("lower", path, "--target", "onnxruntime-1.27", "--no-verify")
    assert done.returncode == 1
    assert "refused by ONNX Runtime 1.27.0" in done.stdout
    assert path.with_name("model.onnxruntime-1.27.onnx").exists()
