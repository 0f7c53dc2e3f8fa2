"""Rewriting of contributed operators of x + bias: the sum becomes a node of its own."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing
from running import check_same

from gatewave.graphs.recognition.sites import sites
from gatewave.graphs.rewrite.fuse import fuse
from gatewave.graphs.rewrite.swap import swap

ROW = np.array([1, -2, 3, 0.5], np.float32)


def _model(op_type, *, gated=False, opset=20, before=False):
    drawing = Drawing(opset=opset, shape=(3, 4))
    x, y = drawing.input("x"), drawing.input("y")
    first = drawing.Mul(x, drawing.Sigmoid(x)) if before else x
    made = drawing.node(op_type, [first, drawing.tensor(ROW)], domain="com.microsoft")
    drawing.output(drawing.Mul(made, y) if gated else drawing.Add(made, y), "out")
    return drawing.model(domains=["com.microsoft"])


def _rewritten(model, rewrite, **options):
    copy = ir.from_proto(ir.to_proto(model))
    outcome = rewrite(copy, **options)
    return copy, outcome, [node.op_type for node in copy.graph]


@pytest.mark.parametrize(("op_type", "ours"), [("FastGelu", "GeGLUTanh"), ("BiasGelu", "GeGLU")])
def test_a_biased_gate_becomes_a_sum_and_ours(op_type, ours):
    model = _model(op_type, gated=True)
    new, outcome, operators = _rewritten(model, fuse)
    assert operators == ["Add", ours]
    assert [change.output for change in outcome.changes] == ["out"]
    check_same(model, new)


@pytest.mark.parametrize(
    ("op_type", "kind", "approximate"),
    [("FastGelu", "gelu-tanh", "tanh"), ("BiasGelu", "gelu", "none")],
)
def test_biased_gelu_becomes_sum_and_standard_gelu(op_type, kind, approximate):
    model = _model(op_type)
    new, _, operators = _rewritten(model, fuse, to="standard", kinds=[kind])
    assert operators == ["Add", "Gelu", "Add"]
    assert new.graph[1].attributes["approximate"].as_string() == approximate
    check_same(model, new)


@pytest.mark.parametrize(("to", "opset"), [("relu", 20), ("swish", 20), ("mish", 17)])
def test_a_biased_gelu_is_swapped_with_its_sum(to, opset):
    model = _model("FastGelu", opset=opset)
    new, outcome, operators = _rewritten(model, swap, source="gelu-tanh", to=to)
    assert len(outcome.changes) == 1
    assert operators[0] == "Add"
    assert "FastGelu" not in operators
    assert [site.kind for site in sites(new)] == [to]
    back, _, _ = _rewritten(new, swap, source=to, to="gelu-tanh")
    check_same(model, back)


def test_bias_sum_takes_the_replaced_value():
    model = _model("BiasGelu", gated=True, before=True)
    new, outcome, operators = _rewritten(model, fuse, kinds=["swish", "geglu"])
    assert operators == ["Swish", "Add", "GeGLU"]
    assert len(outcome.changes) == 2
    check_same(model, new)
