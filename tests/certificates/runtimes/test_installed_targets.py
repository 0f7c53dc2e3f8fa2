"""Installed runtimes, asked to load models; rejected nodes are named one by one."""

import fake_runtimes
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import parser

from gatewave.certificates import certification
from gatewave.certificates.runtimes import environments, installed_targets
from gatewave.certificates.runtimes.catalogue import RUNTIMES
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower.problems import problems
from gatewave.graphs.targets.verdicts import Loading
from gatewave.models import ACTIVATIONS

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def this():
    with installed_targets.target_named("this") as target:
        yield target


def judged(target, path, body, kind="double", opset=20):
    """Return the model of ``body``, loaded by the target, and its problems."""
    proto = parser.parse_model(
        f'<ir_version: 9, opset_import: ["": {opset}, "com.microsoft": 1, "Foreign": 1]> '
        f"g ({kind}[n] x) => ({kind}[n] y) <{kind} lo = {{0}}, {kind} hi = {{6}}> {{ {body} }}"
    )
    onnx.save(proto, path)
    model = ir.from_proto(proto)
    loading = target.live.load(path, model)
    return loading, problems(model, target, loading)


@pytest.mark.parametrize(
    ("body", "kind", "operator"),
    [
        ("y = Elu (x)", "double", "Elu"),
        ("y = PRelu (x, hi)", "double", "PRelu"),
        ("a = Abs (x) y = Tan (a)", "double", "Tan"),
        ("y = Relu (x)", "int16", "Relu"),
        ("y = com.microsoft.BiasGelu (x, hi)", "double", "com.microsoft::BiasGelu"),
    ],
)
def test_a_node_that_is_refused_is_named_with_the_reason(this, tmp_path, body, kind, operator):
    loading, found = judged(this, tmp_path / "m.onnx", body, kind)
    assert not loading.loads
    node, whole = found
    assert (node.operator, node.known) == (operator, True)
    assert "NOT_IMPLEMENTED" in node.why or "Type Error" in node.why
    assert loading.refused in whole.why


@pytest.mark.parametrize("kind", ["double", "int8"])
def test_nodes_that_are_refused_together_are_named_together(this, tmp_path, kind):
    body = "a = Abs (x) r = Relu (a) y = Clip (r, lo, hi)"
    loading, found = judged(this, tmp_path / "m.onnx", body, kind)
    assert "relu_clip_fusion" in loading.refused
    assert any("Relu" in problem.why and problem.operator == "Clip" for problem in found)


def test_what_is_loaded_has_no_problem(this, tmp_path):
    loading, found = judged(this, tmp_path / "m.onnx", "y = Tanh (x)")
    assert loading == Loading(f"ONNX Runtime {ort.__version__}")
    assert found == []


def test_operators_of_a_library_are_not_known(this, tmp_path):
    loading, found = judged(this, tmp_path / "m.onnx", "y = Foreign.Thing (x)")
    assert "Foreign" in loading.missing
    assert [problem.known for problem in found] == [False]


@pytest.mark.parametrize(
    ("load", "how"),
    [
        ("os.abort()", "crashed the process, SIGABRT"),
        ("os.read(os.pipe()[0], 1)", "took more than"),
    ],
)
def test_a_crash_and_a_hang_are_answers(tmp_path, load, how):
    python = fake_runtimes.python(tmp_path, load=load)
    live = installed_targets.InstalledOnnxRuntime(python, CPU, seconds=2)
    try:
        model = ir.from_proto(parser.parse_model("<ir_version: 9> g (float[n] x) => () {}"))
        assert how in live.load(tmp_path / "m.onnx", model).refused
        verdict = live.verdict(b"", "Abs")  # by a new process
        assert verdict.state == "refused"
        assert how in verdict.why
    finally:
        live.close()


REFUSES = "if isinstance(model, str): raise RuntimeError('core.cpp:84: no room')"


def test_the_environment_of_another_version_is_asked(monkeypatch, tmp_path):
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    with installed_targets.target_named("onnxruntime-1.27") as target:
        assert target.live is None
    home = tmp_path / "onnxruntime-1.27"
    fake_runtimes.python(home / "bin", load=REFUSES, version="9.9")
    fake_runtimes.mark_installed(home, "onnxruntime-1.27")
    with installed_targets.target_named("onnxruntime-1.27") as target:
        loading, found = judged(target, tmp_path / "m.onnx", "y = Tanh (x)")
    assert loading == Loading("ONNX Runtime 9.9", refused="core.cpp:84: no room")
    assert [p.why for p in found] == [
        "ONNX Runtime 9.9 does not load the model: core.cpp:84: no room"
    ]


def broken(name, home):
    """Make the environment of a runtime whose Python was removed from the system."""
    runtime, folder = RUNTIMES[name], home / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(home / "removed")
    fake_runtimes.mark_installed(folder, name)
    return runtime


def test_an_environment_that_does_not_start_is_no_verdict_on_the_model(monkeypatch, tmp_path):
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    runtime = broken("openvino", tmp_path)
    with installed_targets.target_named("openvino") as target:
        loading, found = judged(target, tmp_path / "m.onnx", "y = Tanh (x)", "float")
    assert loading.refused == ""
    assert "cannot be started" in loading.missing
    assert found == []

    plan = certification.CertificationPlan(
        runtimes=[runtime, RUNTIMES["numpy"]], graphs=["value"], dtypes=["float32"]
    )
    without, row = certification.of_activation(ACTIVATIONS["sinc"], plan).rows
    assert (without.cells, without.why.partition(":")[0]) == ((), "cannot be started")
    assert [cell.verdict for cell in row.cells] == ["exact"]


def test_an_onnx_runtime_that_does_not_start_is_named_by_its_python(monkeypatch, tmp_path):
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    broken("onnxruntime-1.27", tmp_path)
    with installed_targets.target_named("onnxruntime-1.27") as target:
        with pytest.raises(TargetError, match=r"/onnxruntime-1.27/bin/python does not start"):
            target.live.verdict(b"", "Abs")
        with pytest.raises(TargetError, match="cannot be started"):
            judged(target, tmp_path / "m.onnx", "y = Tanh (x)")
