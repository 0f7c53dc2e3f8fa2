"""Swishes of convolutions, which ONNX Runtime fuses by itself in float32."""

import pytest
from drawing import Drawing
from fusing import fused, silu

from gatewave.graphs.rewrite.fuse import LEFT

SIZES = {"Conv": (1, 4, 6, 6), "ConvTranspose": (1, 4, 10, 10)}


def convolved(op_type, dtype="float32"):
    """Return a model with a Swish of a convolution of 3 × 3."""
    drawing = Drawing(dtype=dtype, shape=SIZES[op_type])
    x = drawing.input("x", (1, 3, 8, 8))
    w = drawing.input("w", (4, 3, 3, 3) if op_type == "Conv" else (3, 4, 3, 3))
    drawing.output(silu(drawing, drawing.node(op_type, [x, w])), "out")
    return drawing.model()


@pytest.mark.parametrize("op_type", SIZES)
def test_in_float32_it_stays(op_type):
    _, outcome, operators = fused(convolved(op_type))
    assert operators == [op_type, "Sigmoid", "Mul"]
    assert [left.reason for left in outcome.skipped] == [LEFT]


def test_in_other_types_it_is_fused():
    for dtype in ("float16", "float64"):
        _, outcome, operators = fused(convolved("Conv", dtype))
        assert operators == ["Conv", "Swish"], dtype
        assert outcome.skipped == []


def test_it_is_fused_if_it_is_asked_for():
    assert fused(convolved("Conv"), kinds=["swish"])[2] == ["Conv", "Swish"]
