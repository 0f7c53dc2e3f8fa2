"""The rest of the graph after a fusion: names, metadata, other users, bodies and functions."""

import numpy as np
import onnx_ir as ir
from drawing import Drawing, drawn, shared_gate
from fusing import fused, silu
from running import check_same

DOMAIN = "ai.gatewave"


def test_names_and_metadata_stay():
    drawing = Drawing()
    x = drawing.input("x")
    before = drawing.node("Softplus", [x], name="before")
    swish = silu(drawing, before)
    drawing.nodes[-1].name = "/layer.3/act/Mul"
    drawing.nodes[-1].metadata_props["origin"] = "here"
    drawing.nodes[-1].doc_string = "said"
    swish.name = "/layer.3/act/Mul_output_0"
    drawing.output(drawing.node("Softmax", [swish], name="after"), "out")
    model = drawing.model()
    new, _, operators = fused(model)
    assert operators == ["Softplus", "Swish", "Softmax"]
    node = new.graph[1]
    assert node.name == "/layer.3/act/Swish"
    assert node.outputs[0].name == "/layer.3/act/Mul_output_0"
    assert (node.metadata_props["origin"], node.doc_string) == ("here", "said")
    assert [n.name for n in new.graph if n is not node] == ["before", "after"]


def test_quantization_annotation_stays():
    proto = ir.to_proto(drawn(lambda op, x: op.Softmax(silu(op, x))))
    for name in ("x", proto.graph.node[1].output[0], "out"):
        annotation = proto.graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    new, _, operators = fused(ir.from_proto(proto))
    assert operators == ["Swish", "Softmax"]
    after = ir.to_proto(new).graph.quantization_annotation
    assert sorted(a.tensor_name for a in after) == ["Mul_1_out", "out", "x"]


def test_node_names_stay_unique():
    drawing = Drawing()
    value = drawing.input("x")
    for _ in range(3):
        value = silu(drawing, value)
        drawing.nodes[-1].name = "/act/Mul"
    drawing.output(value, "out")
    new, _, _ = fused(drawing.model())
    assert len({node.name for node in new.graph}) == 3


def test_shared_gate_of_fused_users_is_removed():
    model = shared_gate()
    new, _, operators = fused(model)
    assert operators == ["Swish", "GLU"]
    check_same(model, new)


def test_shared_gate_with_another_user_stays():
    model = shared_gate()
    _, outcome, operators = fused(model, kinds=["swish"])
    assert operators == ["Sigmoid", "Mul", "Mul"]
    assert "is used by Mul_2 too" in outcome.skipped[0].reason
    assert (outcome.skipped[0].kind, outcome.skipped[0].output) == ("swish", "one")


def test_nested_activations_are_both_fused():
    model = drawn(lambda op, x: silu(op, silu(op, x)))
    new, _, operators = fused(model)
    assert operators == ["Swish", "Swish"]
    check_same(model, new)


def test_bodies_are_fused():
    drawing = Drawing()
    x = drawing.input("x")
    outer = drawing.Neg(x)
    bodies = []
    for sign in (drawing.Identity, drawing.Neg):
        inner = Drawing(style="node")
        scaled = inner.Mul(outer, 1.5)
        result = inner.output(inner.Mul(outer, inner.Sigmoid(scaled)), f"inner{len(bodies)}")
        bodies.append(ir.Graph([], [result], nodes=inner.nodes, name=str(sign)))
    condition = drawing.tensor(np.array(True))
    drawing.output(drawing.If(condition, then_branch=bodies[0], else_branch=bodies[1]))
    model = drawing.model()
    new, outcome, _ = fused(model)
    assert len(outcome.changes) == 2
    assert [node.op_type for node in new.graph.all_nodes()].count("Swish") == 2
    check_same(model, new)


def test_called_function_is_replaced_and_removed():
    body = Drawing(style="node")
    a = ir.Value(name="a")
    graph = ir.Graph([a], [silu(body, a)], nodes=body.nodes, opset_imports={"": 18})
    function = ir.Function("some.package", "SiLU", graph=graph, attributes=[])
    drawing = Drawing()
    drawing.output(drawing.node("SiLU", [drawing.input("x")], domain="some.package"))
    model = drawing.model([function], ["some.package"])
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    assert set(new.opset_imports) == {"", DOMAIN}
    assert [key[0] for key in new.functions] == [DOMAIN]
    check_same(model, new)


def test_callee_comes_before_its_caller():
    body = Drawing(style="node")
    a = ir.Value(name="a")
    graph = ir.Graph([a], [body.Add(silu(body, a), a)], nodes=body.nodes, opset_imports={"": 18})
    function = ir.Function("some.package", "Residual", graph=graph, attributes=[])
    drawing = Drawing()
    drawing.output(drawing.node("Residual", [drawing.input("x")], domain="some.package"))
    model = drawing.model([function], ["some.package"])
    new, outcome, operators = fused(model)
    assert operators == ["Residual"]
    assert len([change for change in outcome.changes if change.kind == "swish"]) == 1
    check_same(model, new, evaluator=True)


def test_old_ir_version_is_raised_for_functions():
    drawing = Drawing(opset=11)
    drawing.output(silu(drawing, drawing.input("x")))
    new, outcome, _ = fused(drawing.model(ir_version=6))
    assert new.ir_version == 8
    assert [c.what for c in outcome.changes if c.kind == "ir"] == [
        "IR version 6 raised to 8: functions need it"
    ]
