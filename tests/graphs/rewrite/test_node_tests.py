"""ONNX's node tests of activations, lowered and run on the installed ONNX Runtime."""

import node_cases
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from gatewave.graphs import targets
from gatewave.graphs.rewrite.lower.legality import problems
from gatewave.graphs.rewrite.lower.lower import lower

CASES = {case.name: case for case in node_cases.cases()}
INSTALLED = "onnxruntime-" + ".".join(ort.__version__.split(".")[:2])


def lowered(case, opset, target):
    model = ir.from_proto(case.stamped(opset))
    lower(model, targets.find(target))
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def test_all_five_activations_are_there_in_all_three_element_types():
    for name in ("gelu", "hardswish", "mish", "swiglu", "swish"):
        kinds = {c.inputs[0].dtype.name for c in CASES.values() if name in c.name}
        assert kinds == {"float16", "float32", "float64"}


@pytest.mark.parametrize("name", CASES)
def test_lowered_for_the_installed_runtime_it_gives_what_is_expected(name):
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
def test_no_problem_is_left_for_any_target_that_can_run_it(target):
    known = targets.find(target)
    for case in CASES.values():
        if case.inputs[0].dtype.name in known.dtypes:
            model = ir.from_proto(case.stamped(case.opsets()[-1]))
            lower(model, known)
            assert [p for p in problems(model, known) if p.known] == []
