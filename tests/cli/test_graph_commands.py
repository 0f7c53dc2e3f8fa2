"""Commands `gatewave inspect`, `fuse` and `swap`, run as from a shell."""

import json

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from drawing import drawn


@pytest.fixture
def model(tmp_path):
    """Return a file with a SwiGLU in three nodes."""
    path = tmp_path / "model.onnx"
    made = drawn(lambda op, a, b: op.Mul(op.Mul(a, op.Sigmoid(a)), b), inputs=2, opset=20)
    onnx.save(onnx_proto(made), path)
    return path


def onnx_proto(model):

    return ir.to_proto(model)


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_inspect_shows_a_table(run, model):
    ended = run("inspect", model)
    assert ended.returncode == 0
    assert "swiglu-linear" in ended.stdout
    assert "separate" in ended.stdout
    assert "ai.onnx 20" in ended.stdout
    assert "values have sizes that are not known" in ended.stdout


def test_inspect_says_what_a_target_does_not_run(run, tmp_path):
    path = tmp_path / "swiglu.onnx"
    made = drawn(lambda op, a, b: op.node("SwiGLU", [a, b]), inputs=2, opset=28)
    onnx.save(onnx_proto(made), path)
    shown = " ".join(run("inspect", path, "--target", "onnxruntime-1.32").stdout.split())
    assert "onnxruntime-1.32-cpu does not run SwiGLU at opset 28 in float32" in shown
    report = json.loads(run("inspect", path, "--target", "onnxruntime-1.31", "--json").stdout)
    assert [p["operator"] for p in report["target"]["problems"]] == ["", "SwiGLU"]


def test_inspect_reports_for_scripts(run, model):
    document = json.loads(run("inspect", model, "--json").stdout)
    assert [activation["kind"] for activation in document["activations"]] == ["swiglu-linear"]


def test_inspect_shows_what_is_held_open(run, tmp_path):
    def write(op, x):
        gate = op.output(op.Sigmoid(x), "gate")
        return op.Mul(x, gate)

    path = tmp_path / "open.onnx"
    onnx.save(onnx_proto(drawn(write)), path)
    assert "gate, inside it, is an output of the graph" in run("inspect", path).stdout


def test_inspect_shows_near_misses_where_nothing_is_found(run, tmp_path):
    def write(op, x):
        return op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Div(x, 1.41421)), 1.0))

    path = tmp_path / "near.onnx"
    onnx.save(onnx_proto(drawn(write)), path)
    shown = run("inspect", path).stdout
    assert "no activations found" in shown
    assert "near miss: gelu at Mul_4: the constant differs: 1.414209" in shown
    (miss,) = json.loads(run("inspect", path, "--json").stdout)["near_misses"]
    assert (miss["kind"], miss["node"], miss["output"]) == ("gelu", "Mul_4", "out")
    assert sorted(miss["operators"]) == ["Add", "Div", "Erf", "Mul", "Mul"]


def test_inspect_says_that_there_is_nothing(run, tmp_path):
    path = tmp_path / "none.onnx"
    onnx.save(onnx_proto(drawn(lambda op, x: op.Neg(x))), path)
    assert "no activations found" in run("inspect", path).stdout


@pytest.mark.parametrize(("name", "fused"), [("x[/a]", "x[/Swish"), ("a[bold]b", "a[bold]b_Swish")])
def test_names_that_look_like_markup_are_shown_as_they_are(run, tmp_path, name, fused):
    path, new = tmp_path / "model.onnx", tmp_path / "new.onnx"
    made = drawn(lambda op, x: op.Mul(x, op.Sigmoid(x)))
    made.graph[-1].name = name
    made.producer_name = name
    onnx.save(onnx_proto(made), path)
    inspected = run("inspect", path)
    assert inspected.returncode == 0
    assert f"written by {name}" in " ".join(inspected.stdout.split())
    assert f"\n{name} " in inspected.stdout
    assert run("fuse", path, "-o", new).stdout.splitlines()[1].startswith(f"{fused} ")


def test_verify_shows_names_that_look_like_markup(run, tmp_path):
    path = tmp_path / "model.onnx"
    made = drawn(lambda op, x: op.Relu(x))
    made.graph.outputs[0].name = "y[/a]"
    onnx.save(onnx_proto(made), path)
    ended = run("verify", path, path)
    assert ended.returncode == 0
    assert "\ny[/a] " in ended.stdout


def test_fuse_takes_the_names_that_people_use(run, model):
    ended = run("fuse", model, "--kind", "swiglu", "--no-verify")
    assert "1 change: wrote" in ended.stdout


def test_fuse_writes_beside_the_model_and_leaves_it(run, model):
    before = model.read_bytes()
    ended = run("fuse", model)
    assert ended.returncode == 0
    assert "SwiGLULinear" in ended.stdout
    assert "1 change: wrote" in ended.stdout
    assert (
        "(no difference found, sampled: 1 output compared in 12 cases, and 1 value within)"
        in ended.stdout
    )
    assert operators(model.with_name("model.fused.onnx")) == ["SwiGLULinear"]
    assert model.read_bytes() == before
    assert {path.name for path in model.parent.iterdir()} == {"model.onnx", "model.fused.onnx"}


def test_fuse_reports_for_scripts(run, model, tmp_path):
    document = json.loads(run("fuse", model, "--json", "-o", tmp_path / "new.onnx").stdout)
    assert document["written"] == str(tmp_path / "new.onnx")
    assert [change["kind"] for change in document["changes"]] == ["swiglu-linear"]


def test_fuse_says_what_it_left(run, model):
    ended = run("fuse", model, "--to", "standard", "--kind", "swiglu-linear")
    assert ended.returncode == 0
    assert "SwiGLU needs opset 28; the graph's is 20" in " ".join(ended.stdout.split())
    assert "0 changes, 1 left alone: wrote" in ended.stdout


def test_lower_notes_a_coarse_comparison(run, tmp_path):
    path = tmp_path / "model.onnx"
    text = '<ir_version: 10, opset_import: ["": 20]> g (double[n] x) => (double[n] y) {y = Gelu(x)}'
    onnx.save(onnx.parser.parse_model(text), path)
    ended = run("lower", path, "--target", "tract")
    assert ended.returncode == 0
    words = " ".join(ended.stdout.split())
    assert "float64 is compared to 1e-06: ONNX defines Gelu with constants of float32" in words
    assert "(no difference found, sampled: 1 output" in words


def test_swap_writes_and_warns(run, model, tmp_path):
    new = tmp_path / "new.onnx"
    ended = run("swap", model, "--from", "swiglu-linear", "--to", "geglu", "-o", new)
    assert ended.returncode == 0
    assert operators(new) == ["GeGLU"]
    assert "measure the model's accuracy again" in ended.stderr


def test_a_swap_of_nothing_writes_nothing(run, model):
    ended = run("swap", model, "--from", "gelu", "--to", "swish")
    assert ended.returncode == 1
    assert "no gelu was replaced. There is none." in " ".join(ended.stderr.split())
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


def test_a_swapped_model_is_tried_and_says_so(run, model, tmp_path):
    ended = run("swap", model, "--from", "swiglu", "--to", "glu", "-o", tmp_path / "new.onnx")
    assert "(another function, so not compared; run by ONNX Runtime" in ended.stdout


def test_a_swapped_model_that_is_not_tried_says_so(run, model, tmp_path):
    options = ("--from", "swiglu", "--to", "glu", "--no-verify", "-o", tmp_path / "new.onnx")
    assert "(another function, so not compared; not run)" in run("swap", model, *options).stdout


@pytest.mark.parametrize(
    ("opset", "dtype", "to"),
    [
        (25, "float", "swish"),
        (23, "double", "mish"),
        (20, "double", "gelu"),
        (14, "double", "hardswish"),
    ],
)
def test_what_onnx_runtime_ran_it_runs_after_a_swap(run, tmp_path, opset, dtype, to):
    path, new = tmp_path / "relu.onnx", tmp_path / "new.onnx"
    head = f'<ir_version: 10, opset_import: ["": {opset}]>'
    onnx.save(
        onnx.parser.parse_model(f"{head} g ({dtype}[n] x) => ({dtype}[n] y) {{y=Relu(x)}}"), path
    )
    ended = run("swap", path, "--from", "relu", "--to", to, "-o", new, "--json")
    assert ended.returncode == 0
    document = json.loads(ended.stdout)
    assert document["run_by"][0] == "ONNX Runtime"
    (note,) = document["notes"]
    assert note.startswith("not by ONNX's own operators, which the opset has: ")
    x = np.linspace(-2, 2, 5).astype({"float": "float32", "double": "float64"}[dtype])
    (got,) = onnxruntime.InferenceSession(new).run(None, {"x": x})
    assert got.shape == (5,)


def test_what_onnx_runtime_did_not_run_may_be_left_to_another(run, tmp_path):
    path, new = tmp_path / "mish.onnx", tmp_path / "new.onnx"
    head = '<ir_version: 10, opset_import: ["": 25]>'
    onnx.save(
        onnx.parser.parse_model(f"{head} g (float[n] x) => (float[n] y) {{y=Swish(x)}}"), path
    )
    ended = run("swap", path, "--from", "swish", "--to", "swish", "-p", "alpha=2", "-o", new)
    assert operators(new) == ["Swish"]
    assert "run by the onnx reference evaluator" in " ".join(ended.stdout.split())


def test_a_swapped_model_that_nothing_runs_is_not_written(run, tmp_path):
    path = tmp_path / "model.onnx"
    text = """<ir_version: 10, opset_import: ["": 18, "some.where": 1]>
        g (float[n] x) => (float[n] z) {y = Relu(x) z = some.where.Unknown(y)}"""
    onnx.save(onnx.parser.parse_model(text), path)
    ended = run("swap", path, "--from", "relu", "--to", "mish")
    assert ended.returncode == 1
    said = " ".join(ended.stderr.split())
    assert "it uses some.where" in said
    assert "--no-verify writes it without running it" in said
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_swap_takes_parameters_and_names(run, model, tmp_path):
    new = tmp_path / "new.onnx"
    options = ("--from", "swiglu", "--to", "swiglu", "-p", "alpha=1.5", "--names", "Mul_2")
    ended = run("swap", model, *options, "-o", new, "--json")
    (change,) = json.loads(ended.stdout)["changes"]
    assert change["what"].startswith("SwiGLULinear(alpha=1.5)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fuse", "{model}", "-o", "{model}"), "is the model that was read"),
        (("fuse", "{model}", "--to", "elsewhere"), "--to: expected gatewave or standard"),
        (("fuse", "{model}", "--kind", "nonsense"), "--kind: expected words of"),
        (("swap", "{model}", "--from", "relu", "--to", "nonsense"), "no activation is called"),
        (("swap", "{model}", "--from", "relu", "--to", "elu", "-p", "alpha=big"), "must be a num"),
        (("swap", "{model}", "--from", "relu", "--to", "elu", "-p", "alpha=nan"), "must be a num"),
        (("swap", "{model}", "--from", "relu", "--to", "elu", "-p", "alpha=1e400"), "can hold"),
        (("inspect", "{missing}"), "cannot be read: No such file"),
        (("inspect", "{text}"), "is no ONNX model"),
    ],
)
def test_wrong_requests_end_with_2(run, model, tmp_path, arguments, message):
    text = tmp_path / "text.onnx"
    text.write_text("no model at all")
    names = {"model": model, "missing": tmp_path / "missing.onnx", "text": text}
    ended = run(*(argument.format(**names) for argument in arguments))
    assert ended.returncode == 2
    assert message in " ".join(ended.stderr.split())


def test_a_model_without_a_change_is_not_run(run, tmp_path):
    path, new = tmp_path / "model.onnx", tmp_path / "new.onnx"
    text = """<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
        g (float[n] x) => (float[n] y) { y = com.acme.Own(x) }"""
    onnx.save(onnx.parser.parse_model(text), path)
    for command in (["fuse"], ["lower", "--target", "tract"]):
        ended = run(*command, path, "-o", new)
        assert ended.returncode == 0, ended.stderr
        assert f"wrote {new} (no change: " in ended.stdout
        new.unlink()


@pytest.mark.parametrize("command", [
    ["fuse"], ["lower", "--target", "tract"], ["swap", "--from", "swiglu-linear", "--to", "geglu"],
], ids=lambda command: command[0])  # fmt: skip
def test_what_rewrites_takes_inputs_and_a_budget(run, tmp_path, command):
    path = tmp_path / "model.onnx"
    write = {"lower": lambda op, a, b: op.node("SwiGLU", [a, b])}.get(
        command[0], lambda op, a, b: op.Mul(op.Mul(a, op.Sigmoid(a)), b)
    )
    onnx.save(onnx_proto(drawn(write, inputs=2, opset=28 if command[0] == "lower" else 20)), path)
    model = onnx.load(path)
    names = [value.name for value in model.graph.input]
    np.savez(tmp_path / "real.npz", **{name: np.ones((2, 4), np.float32) for name in names})
    np.savez(tmp_path / "other.npz", z=np.ones(3, np.float32))
    new = tmp_path / "new.onnx"
    ended = run(*command, path, "-o", new, "--inputs", tmp_path / "other.npz")
    assert ended.returncode == 2
    assert "the model has no input z" in ended.stderr
    assert run(*command, path, "-o", new, "--budget", "soon").returncode == 2
    assert not new.exists()
    ended = run(*command, path, "-o", new, "--inputs", tmp_path / "real.npz", "--budget", "1m")
    assert ended.returncode == 0, ended.stderr


def test_fuse_takes_bounds(run, model, tmp_path):
    new = tmp_path / "new.onnx"
    ended = run("fuse", model, "-o", new, "--rtol", "0", "--atol", "0")
    assert ended.returncode == 1
    assert not new.exists()
    assert run("fuse", model, "-o", new, "--rtol", "1e-4", "--ulp", 64).returncode == 0
    report = json.loads(run("fuse", model, "-o", new, "--json").stdout)["verified"]
    assert report["level"] == "sampled"
    assert "drawn with seed 0" in report["drawn"]
