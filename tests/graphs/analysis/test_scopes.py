"""Traversal of the graphs of a model: each is visited once, with its name and its opsets."""

import onnx.parser
import onnx_ir as ir

from gatewave.graphs.analysis.scopes import scopes

NESTED = """
<ir_version: 10, opset_import: ["": 20, "ai.foo": 1]>
main (float[n] x, bool c) => (float[n] y)
{
    a = Relu(x)
    ["layer/choice"] y = If (c) <
        then_branch = yes () => (float[n] t) {
            t = If (c) <
                then_branch = a1 () => (float[n] u) { u = Neg(a) },
                else_branch = a2 () => (float[n] v) { v = ai.foo.Bar(a) }
            >
        },
        else_branch = no () => (float[n] e) { e = Abs(a) }
    >
}
<domain: "ai.foo", opset_import: ["": 17]>
Bar (z) => (w)
{
    c = Constant <value = bool {1}> ()
    w = If (c) <
        then_branch = b1 () => (p) { p = Neg(z) },
        else_branch = b2 () => (q) { q = Abs(z) }
    >
}
"""


def test_scopes_in_order_with_their_opsets():
    model = ir.from_proto(onnx.parser.parse_model(NESTED))
    assert [(scope.name, scope.opsets[""]) for scope in scopes(model)] == [
        ("", 20),
        ("layer/choice/then_branch", 20),
        ("layer/choice/then_branch/If_0/then_branch", 20),
        ("layer/choice/then_branch/If_0/else_branch", 20),
        ("layer/choice/else_branch", 20),
        ("function ai.foo::Bar", 17),
        ("function ai.foo::Bar/If_1/then_branch", 17),
        ("function ai.foo::Bar/If_1/else_branch", 17),
    ]


def test_every_node_is_in_one_scope():
    model = ir.from_proto(onnx.parser.parse_model(NESTED))
    found = [node for scope in scopes(model) for node in scope.graph]
    everywhere = [*model.graph.all_nodes()]
    for function in model.functions.values():
        everywhere += function.all_nodes()
    assert len(found) == len(set(found))
    assert set(found) == set(everywhere)


def test_each_graph_of_a_list_is_a_scope():
    body = ir.from_proto(
        onnx.parser.parse_graph("b () => (float y) { y = Constant<value_float=1.0>() }")
    )
    twin = ir.from_proto(
        onnx.parser.parse_graph("b () => (float y) { y = Constant<value_float=2.0>() }")
    )
    node = ir.Node("ai.foo", "Switch", [], [ir.AttrGraphs("cases", [body, twin])])
    graph = ir.Graph([], node.outputs, nodes=[node], opset_imports={"ai.foo": 1, "": 20})
    names = [scope.name for scope in scopes(ir.Model(graph, ir_version=10))]
    assert names[1].endswith("/cases[0]")
    assert names[2].endswith("/cases[1]")


def test_scopes_see_an_added_import():
    model = ir.from_proto(onnx.parser.parse_model(NESTED))
    main = next(scopes(model))
    model.opset_imports["ai.gatewave"] = 1
    assert main.opsets["ai.gatewave"] == 1
