"""Fusion: each activation becomes one node with the same results; others are left with a reason."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn
from fusing import fused, silu, swiglu
from running import check_same

from gatewave.export.operators import decomposed
from gatewave.graphs.rewrite.fuse import fuse

DOMAIN = "ai.gatewave"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_swiglu_becomes_one_node_with_its_body(dtype):
    model = drawn(swiglu, inputs=2, dtype=dtype)
    new, outcome, operators = fused(model)
    assert operators == ["SwiGLULinear"]
    assert (DOMAIN, "SwiGLULinear", "") in new.functions
    assert [change.output for change in outcome.changes] == ["out"]
    assert outcome.skipped == []
    check_same(model, new, dtype, evaluator=dtype == "float64")


def test_two_dtypes_have_a_body_each():
    drawing = Drawing()
    drawing.output(silu(drawing, drawing.input("x")), "one")
    half = drawing.input("h", dtype="float16")
    drawing.output(silu(drawing, half), "two", dtype="float16")
    model = drawing.model(ir_version=8)
    new, outcome, _ = fused(model)
    assert {key[2] for key in new.functions} == {"", "float16"}
    assert new.ir_version == 10
    assert [change.kind for change in outcome.changes] == ["swish", "ir", "swish"]
    check_same(model, new, "float16")


def test_to_standard_makes_onnx_operators():
    model = drawn(swiglu, inputs=2, opset=28)
    new, _, operators = fused(model, to="standard")
    assert operators == ["SwiGLU"]
    assert not new.functions
    check_same(model, new, evaluator=True)


def test_to_standard_makes_swish_before_opset_28():
    model = drawn(swiglu, inputs=2, opset=24)
    new, outcome, operators = fused(model, to="standard")
    assert operators == ["Swish", "Mul"]
    assert [s.reason for s in outcome.skipped] == ["SwiGLU needs opset 28; the graph's is 24"]
    check_same(model, new, evaluator=True)


def test_to_standard_says_which_opset_it_needs():
    _, outcome, operators = fused(drawn(silu), to="standard")
    assert operators == ["Sigmoid", "Mul"]
    assert [s.reason for s in outcome.skipped] == ["Swish needs opset 24; the graph's is 18"]


def test_ours_becomes_standard():
    new, _, _ = fused(drawn(silu, opset=24))
    back, _, operators = fused(new, to="standard")
    assert operators == ["Swish"]
    assert not back.functions
    assert DOMAIN not in back.opset_imports
    assert not back.graph.initializers


def test_standard_operators_become_ours():
    model = drawn(lambda op, x: op.Swish(x, alpha=1.5), opset=24)
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    assert new.graph[0].domain == DOMAIN
    check_same(model, new)


def test_fusing_again_changes_nothing():
    new, _, _ = fused(drawn(swiglu, inputs=2))
    before = ir.to_proto(new).SerializeToString(deterministic=True)
    again, outcome, _ = fused(new)
    assert (outcome.changes, outcome.skipped) == ([], [])
    assert ir.to_proto(again).SerializeToString(deterministic=True) == before


def test_our_decomposed_graphs_are_fused_again(case, exported, dtype):
    activation, operator = case
    stem = activation.stem(operator)
    model = decomposed(exported(stem)["value", dtype])
    new, _, operators = fused(model)
    if stem in {"bilinear", "sigmoid"}:
        assert len(operators) > 1 or operators == [model.graph[0].op_type]
        return
    assert operators == [operator.op_type]
    (body,) = new.functions.values()
    (original,) = exported(stem)["value", dtype].functions.values()
    assert [n.op_type for n in body] == [n.op_type for n in original]
    assert list(new.graph.initializers) == list(operator.reals)


def test_only_swish_is_fused_if_shapes_may_differ():
    drawing = Drawing()
    a, b = drawing.input("a", ("n", 4)), drawing.input("b", ("m", 4))
    drawing.output(swiglu(drawing, a, b), shape=(None, 4))
    _, outcome, operators = fused(drawing.model())
    assert operators == ["Swish", "Mul"]
    assert outcome.skipped[0].reason == (
        "the shapes are not known to be equal: a [n,4] and b [m,4]"
    )


def test_unknown_element_type_is_skipped():
    drawing = Drawing()
    x = drawing.input("x")
    inner = drawing.node("Unknown", [x], domain="some.where")
    drawing.output(drawing.Softmax(silu(drawing, inner)))
    _, outcome, _ = fused(drawing.model(domains=["some.where"]))
    assert [s.reason for s in outcome.skipped] == ["its element type is not known"]


def test_opset_that_body_needs_is_named():
    def write(op, x):
        pi_x = op.Mul(x, np.pi)
        guard = op.Equal(op.node("Cast", [x], to=7), op.tensor(np.array(0)))
        return op.Where(guard, 1.0, op.Div(op.Sin(pi_x), pi_x))

    def torch_form(op, x):
        pi_x = op.Mul(x, np.pi)
        near = op.Less(op.Abs(x), 1e-7)
        return op.Where(near, 1.0, op.Div(op.Sin(pi_x), pi_x))

    _, outcome, _ = fused(drawn(torch_form, opset=9))
    assert outcome.skipped[0].reason == "needs opset 11, which has Round; the graph's is 9"
    assert fused(drawn(write, opset=11))[1].changes == []


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 20, 23, 24])
def test_it_is_fused_at_every_opset(opset):
    model = drawn(silu, opset=opset)
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    assert new.opset_imports == {"": opset, DOMAIN: 1}
    check_same(model, new)


def test_skipped_node_without_name_goes_by_output():
    model = drawn(silu)
    model.graph[-1].name = ""
    _, outcome, _ = fused(model, to="standard")
    assert [s.node for s in outcome.skipped] == ["out"]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no activation is called"):
        fuse(drawn(silu), kinds=["nonsense"])
