"""Edit engine: replaced nodes, shared constants, and removal of what only they have used."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.rewrite.editing.editor import Editor, drop_imports

TEXT = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[n] x, bool c) => (float[n] y, float[n] z) <float two = {2.0}, float lone = {3.0}> {
    k = Constant <value = float {5.0}> ()
    unused = Neg (x)
    m = Mul (x, two)
    y = Add (m, k)
    z = If (c) <
        then_branch = a () => (float[n] t) { t = own.F (x) },
        else_branch = b () => (float[n] e) { e = Sub (x, k) }>
}
<domain: "own", opset_import: ["" : 17]> F (a) => (b) { b = Abs (a) }
"""


def opened(text=TEXT):
    model = ir.from_proto(parser.parse_model(text))
    nodes = {node.outputs[0].name: (s, node) for s in scopes(model) for node in s.graph}
    return model, Editor(model), nodes


def by_negation(editor, scope, node, operand):
    """Replace ``node`` by the negation of ``operand``."""
    given = list(node.inputs)
    op = editor.drawing(node, scope)
    result = op.Neg(operand)
    editor.replace(node, op.needed([result]), [(node.outputs[0], result)])
    editor.sweep(given)


def test_output_keeps_name_type_and_metadata():
    model, editor, nodes = opened()
    scope, node = nodes["y"]
    old = node.outputs[0]
    old.metadata_props["layer"], node.metadata_props["origin"] = "7", "here"
    by_negation(editor, scope, node, model.graph.inputs[0])
    new = model.graph.outputs[0]
    assert (new.name, new.type, new.shape) == ("y", old.type, old.shape)
    assert new.metadata_props["layer"] == "7"
    assert new.producer().metadata_props["origin"] == "here"
    assert new.producer().name == "y/Neg"


def test_only_what_replaced_nodes_used_is_removed():
    model, editor, nodes = opened()
    by_negation(editor, *nodes["y"], model.graph.inputs[0])
    names = [node.outputs[0].name for node in model.graph]
    assert names == ["k", "unused", "y", "z"]  # k has a user in a branch
    assert list(model.graph.initializers) == ["lone"]


def test_constants_of_branches_are_removed_from_outer_graph():
    model, editor, nodes = opened()
    for output in ("y", "e"):
        by_negation(editor, *nodes[output], model.graph.inputs[0])
    assert "k" not in [node.outputs[0].name for node in model.graph]


def test_initializer_that_is_a_model_input_stays():
    text = TEXT.replace("bool c)", "bool c, float two)")
    model, editor, nodes = opened(text)
    by_negation(editor, *nodes["y"], model.graph.inputs[0])
    assert set(model.graph.initializers) == {"two", "lone"}


def test_uncalled_function_and_its_domain_are_removed():
    model, editor, nodes = opened()
    by_negation(editor, *nodes["t"], model.graph.inputs[0])
    editor.finish()
    assert not model.functions
    assert dict(model.opset_imports) == {"": 17}


def test_import_of_used_domain_stays():
    model, _, _ = opened()
    assert list(drop_imports(model, {"", "own", "gone"})) == []
    assert set(model.opset_imports) == {"", "own"}


@pytest.mark.parametrize(
    ("output", "ir_version", "has_initializer"),
    [("y", 8, True), ("t", 8, True), ("b", 8, False), ("y", 3, False)],
    ids=["graph", "branch", "function", "old file"],
)
def test_numbers_are_initializers_where_they_can_be(output, ir_version, has_initializer):
    model, _, nodes = opened()
    model.ir_version = ir_version
    scope, node = nodes[output]
    op = Editor(model).drawing(node, scope)
    results = [op.Add(model.graph.inputs[0], 0.5), op.Mul(model.graph.inputs[0], 0.5)]
    operands = {result.producer().inputs[1] for result in results}
    assert len(operands) == 1
    (constant,) = operands
    assert constant.is_initializer() is has_initializer
    assert [node.op_type for node in op.nodes].count("Constant") == (not has_initializer)


def test_signs_of_zero_are_two_constants():
    _, editor, nodes = opened()
    op = editor.drawing(*reversed(nodes["y"]))
    numbers = [op.constant(number).const_value.numpy() for number in (0.0, -0.0)]
    assert [np.signbit(number) for number in numbers] == [False, True]


def test_unneeded_nodes_are_no_users():
    model, editor, nodes = opened()
    scope, node = nodes["y"]
    op = editor.drawing(node, scope)
    x = model.graph.inputs[0]
    kept, left = op.Neg(x), op.Abs(node.inputs[0])
    assert [n.op_type for n in op.needed([kept])] == ["Neg"]
    assert left.producer() not in node.inputs[0].consumers()


def test_new_names_are_free_in_every_graph():
    model, editor, nodes = opened(TEXT.replace("unused = Neg", '"y/Neg" = Neg'))
    by_negation(editor, *nodes["y"], model.graph.inputs[0])
    assert model.graph.outputs[0].producer().name == "y/Neg_1"


BRANCHING = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n] x, bool c) => (float[n] y) <float two = {2.0}> {
    doubled = Mul (x, two)
    chosen = If (c) <
        then_branch = t () => (float[n] a) { a = Neg (doubled) },
        else_branch = e () => (float[n] b) { b = Abs (x) }>
    y = Relu (chosen)
}
"""


def test_values_that_only_a_removed_body_used_are_swept():
    model, editor, nodes = opened(BRANCHING)
    by_negation(editor, *nodes["y"], model.graph.inputs[0])
    assert [node.op_type for node in model.graph] == ["Neg"]
    assert not model.graph.initializers
    assert not model.graph.inputs[1].uses()
