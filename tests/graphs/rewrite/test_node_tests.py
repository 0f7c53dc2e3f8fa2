"""ONNX's node tests of activations, lowered and run on the installed ONNX Runtime."""

import node_cases
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from gatewave.graphs import targets
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.rewrite.lower.problems import problems

CASES = {case.name: case for case in node_cases.cases()}
INSTALLED = "onnxruntime-" + ".".join(ort.__version__.split(".")[:2])


def lowered(case, opset, target):
    model = ir.from_proto(case.stamped(opset))
    lower(model, targets.find(target))
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def together(cases):
    """Return one model with the nodes of all ``cases``, at the newest opset."""
    models = [
        onnx.compose.add_prefix(case.stamped(node_cases.OPSETS[-1]), f"{case.name}/")
        for case in cases
    ]
    parts = [model.graph for model in models]
    graph = onnx.helper.make_graph(
        [node for part in parts for node in part.node],
        "together",
        [port for part in parts for port in part.input],
        [port for part in parts for port in part.output],
        [tensor for part in parts for tensor in part.initializer],
    )
    opsets = [onnx.helper.make_opsetid("", node_cases.OPSETS[-1])]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=models[0].ir_version)


def test_cases_cover_every_activation_and_type():
    for name in ("gelu", "hardswish", "mish", "swiglu", "swish"):
        kinds = {c.inputs[0].dtype.name for c in CASES.values() if name in c.name}
        assert kinds == {"float16", "float32", "float64"}


@pytest.mark.parametrize("name", CASES)
def test_lowered_cases_give_the_expected_results(name):
    case = CASES[name]
    for opset in case.opsets():
        proto = lowered(case, opset, INSTALLED)
        session = ort.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        names = [port.name for port in session.get_inputs()]
        results = session.run(None, dict(zip(names, case.inputs, strict=True)))
        node_cases.assert_close(case, results)


@pytest.mark.parametrize("target", [t for t in targets.names() if t[-1].isdigit()])
def test_lowered_cases_have_no_problem_on_any_target(target):
    known = targets.find(target)
    runnable = [case for case in CASES.values() if case.inputs[0].dtype.name in known.dtypes]
    assert all(case.opsets()[-1] == node_cases.OPSETS[-1] for case in runnable)
    model = ir.from_proto(together(runnable))
    lower(model, known)
    assert [p for p in problems(model, known) if p.known] == []
