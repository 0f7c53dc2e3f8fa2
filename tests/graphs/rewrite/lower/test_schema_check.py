"""Nodes that violate the schema of their operator: they are rejected by name before a rewrite."""

import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from gatewave.graphs import targets
from gatewave.graphs.errors import ModelError
from gatewave.graphs.rewrite.lower import schema_check
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.rewrite.lower.problems import problems

HEAD = '<ir_version: 10, opset_import: ["" : 28, "com.microsoft" : 1, "ai.gatewave" : 1, "o" : 1]>'


def model(nodes, dtype="float"):
    text = f"{HEAD} g ({dtype}[n, 4] x) => ({dtype}[n, 4] y) {{ {nodes} }}"
    return ir.from_proto(parser.parse_model(text))


WRONG = {
    "y = Where (x, x)": r"Where 'y' has 2 inputs, and should have 3",
    "y = Mul (x)": r"Mul 'y' has 1 inputs",
    "e = Equal (x) y = Where (e, x, x)": r"Equal 'e' has 1 inputs",
    "y = Swish ()": r"Swish 'y' has 0 inputs",
    'y = Swish ("")': r"Swish 'y' lacks an input",
    "y = SwiGLU (x)": r"SwiGLU 'y' has 1 inputs",
    "y, z = Gelu (x)": r"Gelu 'y' has 2 outputs, and should have 1",
    "y = com.microsoft.QuickGelu ()": r"com.microsoft::QuickGelu 'y' has 0 inputs",
    "y = com.microsoft.FastGelu (x, x, x)": r"has 3 inputs, and should have 1 to 2",
    "y = ai.gatewave.Swish ()": r"ai.gatewave::Swish 'y' has 0 inputs, and should have 1 to 2",
    'y = Swish <alpha = "no"> (x)': r"Swish 'y' has alpha as STRING, and should have FLOAT",
    "y = Swish <alpha = 2> (x)": r"has alpha as INT",
    'y = Split <num_outputs = "a"> (x)': r"Split 'y' has num_outputs as STRING",
    'y = Gelu <approximate = "weird"> (x)': r"approximate 'weird', and should have none or tanh",
}


@pytest.mark.parametrize("nodes", WRONG)
def test_what_an_operator_does_not_want_is_named(nodes):
    for target in ("openvino", "litert", "onnxruntime-1.30"):
        for what in (lower, problems):
            with pytest.raises(ModelError, match=WRONG[nodes]):
                what(model(nodes), targets.find(target))


def test_node_without_outputs_goes_by_operator():
    made = onnx.helper.make_model(
        onnx.helper.make_graph([onnx.helper.make_node("Gelu", ["x"], [])], "g", [], []),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
    )
    with pytest.raises(ModelError, match=r"Gelu has 0 outputs"):
        schema_check.check(ir.from_proto(made))


RIGHT = {
    "left out": 'y = Clip (x, "", x)',
    "many": "y = Concat <axis = 0> (x, x, x, x)",
    "unknown attribute": "y = Relu <consumed_inputs = [1]> (x)",
    "unknown operator": "y = Nothing <alpha = 1> (x, x)",
    "unknown domain": "y = o.Where (x)",
    "few outputs": "y = ai.gatewave.SwishValueAndGrad (x)",
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_it_may_have_or_nobody_knows_passes(what):
    schema_check.check(model(RIGHT[what]))


def test_nodes_in_bodies_and_functions_are_checked_too():
    body = """c = Constant <value = bool {1}> ()
        y = If (c) < then_branch = a () => (float[n, 4] t) { t = Mul (x) },
                     else_branch = b () => (float[n, 4] e) { e = Identity (x) }>"""
    with pytest.raises(ModelError, match=r"Mul 't' in If_1/then_branch has 1 inputs"):
        schema_check.check(model(body))
    function = f"""{HEAD} g (float[n] x) => (float[n] y) {{ y = o.F (x) }}
        <domain: "o", opset_import: ["" : 20]> F (a) => (b) {{ b = Mul (a) }}"""
    with pytest.raises(ModelError, match=r"Mul 'b' in function o::F has 1 inputs"):
        schema_check.check(ir.from_proto(parser.parse_model(function)))


@pytest.mark.parametrize("axis", [-3, 2, 5])
def test_split_along_missing_axis_is_an_error(axis):
    made = model(f"y = Split <axis = {axis}, num_outputs = 1> (x)")
    with pytest.raises(targets.TargetError, match=r"Split 'y'"):
        lower(made, targets.find("litert"))


def test_an_inference_that_fails_says_nothing(caplog):
    made = model('"" = Gelu (x) y = Relu (x)')
    problems(made, targets.find("onnxruntime"))
    assert not caplog.records
