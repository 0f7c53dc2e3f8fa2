"""Problems that prevent a model from running on a target, in any graph of the model."""

import onnx_ir as ir
import pytest
from onnx import parser

from gatewave.graphs import targets
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.rewrite.editing.names import rename_shadows
from gatewave.graphs.rewrite.lower.inlining import inline
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.lower.problems import problems


def model(text, opset=20, ir_version=8, imports=""):
    return ir.from_proto(
        parser.parse_model(
            f'<ir_version: {ir_version}, opset_import: ["" : {opset}{imports}]> {text}'
        )
    )


def found(text, target, **how):
    return [
        (p.scope, p.node, p.operator, p.dtype)
        for p in problems(model(text, **how), targets.find(target))
    ]


def test_a_model_that_runs_has_none():
    text = "g (float[n] x) => (float[n] y) { s = Sigmoid (x) y = Mul (x, s) }"
    assert found(text, "onnxruntime") == []


def test_unsupported_opset_and_ir_are_model_problems():
    text = "g (float[n] x) => (float[n] y) { y = Sigmoid (x) }"
    whys = [p.why for p in problems(model(text, 28, 14), targets.find("onnxruntime-1.31"))]
    assert whys == [
        "opset 28: onnxruntime-1.31-cpu takes 7..26",
        "IR version 14: onnxruntime-1.31-cpu takes 3..13",
    ]


def test_each_node_is_assessed_in_its_type():
    text = "g (double[n] x, float[n] z) => (double[n] y, float[n] w) { y = Mish (x) w = Mish (z) }"
    assert found(text, "onnxruntime") == [("", "y", "Mish", "float64")]


def test_nodes_of_bodies_are_assessed():
    text = """g (bool c, double[n] x) => (double[n] y) {
        y = If (c) <
            then_branch = a () => (double[n] t) { t = Erf (x) },
            else_branch = b () => (double[n] e) { e = Abs (x) }>
    }"""
    assert found(text, "onnxruntime") == [("If_0/then_branch", "t", "Erf", "float64")]


CALLS = """
g (float[n] x, double[n] z) => (float[n] y, double[n] w) { y = Own.Outer (x) w = Own.Outer (z) }
<domain: "Own", opset_import: ["" : 20, "Own" : 1]> Outer (a) => (b) { b = Own.Inner (a) }
<domain: "Own", opset_import: ["" : 20]> Inner (a) => (b) { b = Erf (a) }
"""


def test_functions_are_assessed_for_types_of_calls():
    expected = [("function Own::Inner", "b", "Erf", "float64")]
    assert found(CALLS, "onnxruntime", imports=', "Own" : 1') == expected
    only_float = CALLS.replace("double", "float")
    assert found(only_float, "onnxruntime", imports=', "Own" : 1') == []


def test_functions_are_a_problem_where_none_run():
    found = problems(model(CALLS, imports=', "Own" : 1'), targets.find("openvino"))
    whys = [problem.why for problem in found if problem.known]
    assert whys == ["openvino-2026.4 runs no model-local functions, as Own::Outer, Own::Inner"]


def test_what_goes_wrong_silently_is_a_problem_too():
    silu = "g (double[n] x) => (double[n] y) { s = Sigmoid (x) y = Mul (x, s) }"
    assert found(silu, "onnxruntime-1.30") == [("", "y", "Mul", "float64")]
    swish = "g (float[n] x) => (float[n] y) { y = Swish <alpha = 2.0> (x) }"
    assert found(swish, "tract", opset=24) == [("", "y", "Swish", "float32")]


def test_products_that_are_no_silu_are_none():
    other = "g (double[n] x, double[n] z) => (double[n] y) { s = Sigmoid (z) y = Mul (x, s) }"
    assert found(other, "onnxruntime-1.30") == []


COLLIDING = """
g (float[n] x, bool c) => (float[n] y, float[n] z) {
    h_1 = Abs (x)
    z = Own.F (x)
    y = If (c) <
        then_branch = a () => (float[n] t) { h = Neg (x) i = Own.F (h) t = Mul (i, h_1) },
        else_branch = b () => (float[n] e) { e = Own.F (x) }>
}
<domain: "Own", opset_import: ["" : 20]> F (a) => (b) { h = Abs (a) b = Neg (h) }
"""


def test_inlining_gives_no_name_twice():
    made = model(COLLIDING, imports=', "Own" : 1')
    target = targets.find("tvm")
    inline(made, target, Legality(made, target))
    names = [o.name for s in scopes(made) for node in s.graph for o in node.outputs]
    assert len(set(names)) == len(names)
    assert {"h_1", "y", "z", "t", "e", "i", "h"} <= set(names)


def test_originals_keep_their_names():
    made = model("g (float[n] x) => (float[n] y) { a = Abs (x) b = Abs (a) y = Abs (b) }")
    first, second, _ = (node.outputs[0] for node in made.graph)
    second.name = "a"
    rename_shadows(made, {first})
    assert [node.outputs[0].name for node in made.graph] == ["a", "a_1", "y"]


@pytest.mark.parametrize("name", ["onnxruntime", "tvm"])
def test_recursive_function_ends(name):
    text = """
    g (float[n] x) => (float[n] y) { y = Own.F (x) }
    <domain: "Own", opset_import: ["" : 20, "Own" : 1]> F (a) => (b) { b = Own.F (a) }
    """
    problems(model(text, imports=', "Own" : 1'), targets.find(name))


def test_overloads_are_assessed_for_their_own_types():
    text = (
        "g (float[n] x, double[n] z) => (float[n] y, double[n] w) { y = own.F (x) w = own.F (z) }"
    )
    function = "<domain: 'own', opset_import: ['' : 20]> F (x) => (y) { y = Erf (x) }"
    made = model(f"{text} {function.replace(chr(39), chr(34))}", imports=', "own" : 1')
    (identifier,) = made.functions
    second = made.functions[identifier].clone()
    second.overload = "float64"
    made.functions[second.identifier()] = second
    list(made.graph)[1].overload = "float64"
    listed = problems(made, targets.find("onnxruntime-1.24"))
    assert [(p.operator, p.dtype, p.known) for p in listed] == [("Erf", "float64", True)]
