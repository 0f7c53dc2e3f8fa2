"""Activations in every spelling."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn
from recognised import found, write_sinc, write_swish

from gatewave.graphs.recognition.sites import sites, survey

ROOT_2 = math.sqrt(2)


GELU_SLOPE = math.sqrt(2 / math.pi)


SIGMOIDS = {
    "Sigmoid": lambda op, u: op.Sigmoid(u),
    "1/(1+exp(-u))": lambda op, u: op.Div(1.0, op.Add(1.0, op.Exp(op.Neg(u)))),
    "reciprocal": lambda op, u: op.Reciprocal(op.Add(op.Exp(op.Mul(u, -1.0)), 1.0)),
    "exp(u)/(1+exp(u))": lambda op, u: op.Div(op.Exp(u), op.Add(op.Exp(u), 1.0)),
    "tanh": lambda op, u: op.Mul(0.5, op.Add(1.0, op.Tanh(op.Div(u, 2.0)))),
    "tanh, distributed": lambda op, u: op.Add(op.Mul(op.Tanh(op.Mul(u, 0.5)), 0.5), 0.5),
    "1-sigmoid(-u)": lambda op, u: op.Sub(1.0, op.Sigmoid(op.Neg(u))),
    "power": lambda op, u: op.Pow(op.Add(op.Exp(op.Sub(0.0, u)), 1.0), -1.0),
    "exp(-softplus(-u))": lambda op, u: op.Exp(op.Neg(op.Softplus(op.Neg(u)))),
}


SCALES = {
    "multiplied": lambda op, x, alpha: op.Mul(x, alpha),
    "commuted": lambda op, x, alpha: op.Mul(alpha, x),
    "divided": lambda op, x, alpha: op.Div(x, 1 / alpha),
    "negated": lambda op, x, alpha: op.Neg(op.Mul(x, -alpha)),
}


@pytest.mark.parametrize("style", ["initializer", "node", "cast"])
@pytest.mark.parametrize("sigmoid", SIGMOIDS)
def test_silu_with_any_sigmoid(sigmoid, style):
    write = SIGMOIDS[sigmoid]
    assert found(drawn(lambda op, x: op.Mul(x, write(op, x)), style=style)) == [
        ("swish", {"alpha": 1.0})
    ]
    assert found(drawn(lambda op, x: op.Mul(write(op, x), x), style=style)) == [
        ("swish", {"alpha": 1.0})
    ]


@pytest.mark.parametrize("alpha", [1.702, -0.5, 0.01, 30.0, 1000.0])
@pytest.mark.parametrize("scale", SCALES)
def test_swish_with_any_scaling(scale, alpha):
    model = drawn(lambda op, x: op.Mul(x, op.Sigmoid(SCALES[scale](op, x, alpha))))
    ((kind, reals),) = found(model)
    assert kind == "swish"
    assert reals["alpha"] == pytest.approx(alpha, rel=2e-7)


@pytest.mark.parametrize("alpha", [1.702, -0.5, 0.01, 30.0, 1000.0])
def test_float32_alpha_is_the_written_decimal(alpha):
    model = drawn(lambda op, x: op.Mul(x, op.Sigmoid(op.Mul(x, alpha))))
    assert found(model) == [("swish", {"alpha": alpha})]


@pytest.mark.parametrize("alpha", [0.1, -1 / 3, 1.702])
@pytest.mark.parametrize("scale", SCALES)
def test_float64_alpha_is_exact(scale, alpha):
    def write(op, x):
        return op.Mul(x, op.Sigmoid(SCALES[scale](op, x, alpha)))

    ((_, reals),) = found(drawn(write, dtype="float64"))
    assert reals["alpha"] == pytest.approx(alpha, rel=2e-16)


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swish_written_as_quotient(alpha):
    def write(op, x):
        return op.Div(x, op.Add(op.Exp(op.Mul(x, -alpha)), 1.0))

    assert found(drawn(write)) == [("swish", {"alpha": alpha})]


GATED = {
    "(a·σ)·b": lambda op, a, gate, b: op.Mul(op.Mul(a, gate), b),
    "b·(a·σ)": lambda op, a, gate, b: op.Mul(b, op.Mul(a, gate)),
    "(a·b)·σ": lambda op, a, gate, b: op.Mul(op.Mul(a, b), gate),
    "a·(b·σ)": lambda op, a, gate, b: op.Mul(a, op.Mul(b, gate)),
    "(σ·b)·a": lambda op, a, gate, b: op.Mul(op.Mul(gate, b), a),
}


@pytest.mark.parametrize("order", GATED)
@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swiglu_in_every_order(order, alpha):
    def write(op, a, b):
        return GATED[order](op, a, op.Sigmoid(op.Mul(a, alpha)), b)

    model = drawn(write, inputs=2)
    (site,) = sites(model)
    assert (site.kind, dict(site.reals)) == ("swiglu-linear", {"alpha": alpha})
    assert [value.name for value in site.inputs] == ["x", "y"]
    assert site.layout == "separate"
    assert len(site.nodes) == 4


@pytest.mark.parametrize("order", GATED)
def test_sigmoid_gated_swiglu_in_every_order(order):
    def write(op, a, b):
        return GATED[order](op, a, op.Sigmoid(a), op.Sigmoid(b))

    assert found(drawn(write, inputs=2)) == [("swiglu-sigmoid", {})]


def test_swiglu_written_as_quotient():
    def write(op, a, b):
        return op.Div(op.Mul(a, b), op.Add(op.Exp(op.Neg(a)), 1.0))

    assert found(drawn(write, inputs=2)) == [("swiglu-linear", {"alpha": 1.0})]


SINCS = {
    "torch": write_sinc,
    "angle compared": lambda op, x: write_sinc(op, x, condition=lambda op, _, u: op.Equal(u, 0.0)),
    "guarded": lambda op, x: write_sinc(op, x, condition=lambda op, x, _: op.Less(op.Abs(x), 1e-7)),
    "swapped": lambda op, x: op.Where(
        op.Not(op.Equal(x, 0.0)),
        op.Div(op.Sin(op.Mul(math.pi, x)), op.Mul(math.pi, x)),
        1.0,
    ),
    "safe divisor": lambda op, x: op.Where(
        op.Equal(x, 0.0),
        1.0,
        op.Div(op.Sin(op.Mul(x, math.pi)), op.Mul(op.Where(op.Equal(x, 0.0), 1.0, x), math.pi)),
    ),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("spelling", SINCS)
def test_sinc_in_every_spelling(spelling, dtype):
    assert found(drawn(SINCS[spelling], dtype=dtype)) == [("sinc", {})]


def _selected(op, condition, x, y):
    """Write a selection as tf2onnx writes `tf.where`."""
    yes = op.Cast(condition, to=ir.DataType.FLOAT.value)
    no = op.Cast(op.Not(condition), to=ir.DataType.FLOAT.value)
    return op.Add(op.Mul(yes, x), op.Mul(no, y))


LIKE = {
    "Expand": lambda op, x: op.Expand(op.number(1.0), op.Shape(x)),
    "ConstantOfShape": lambda op, x: op.ConstantOfShape(
        op.Cast(op.Shape(x), to=ir.DataType.INT64.value), value=ir.tensor(np.ones(1, np.float32))
    ),
    "number": lambda op, _: op.number(1.0),
}


@pytest.mark.parametrize("like", LIKE)
def test_sinc_selected_by_products(like):
    drawing = Drawing(shape=None)
    angle = drawing.Mul(drawing.input("x", ("n", "m")), math.pi)
    is_zero, one = drawing.Equal(angle, 0.0), LIKE[like](drawing, angle)
    safe = _selected(drawing, is_zero, one, angle)
    quotient = drawing.Div(drawing.Sin(safe), safe)
    drawing.output(_selected(drawing, is_zero, one, quotient), "out", shape=("a", "b"))
    assert found(drawing.model()) == [("sinc", {})]


def test_sinc_with_nan_at_zero_is_reported():
    drawing = Drawing()
    x = drawing.input("x")
    angle = drawing.Mul(x, math.pi)
    quotient = drawing.Div(drawing.Sin(angle), angle)
    drawing.output(_selected(drawing, drawing.Equal(x, 0.0), drawing.number(1.0), quotient), "out")
    surveyed = survey(drawing.model())
    assert surveyed.sites == []
    (miss,) = surveyed.near_misses
    assert (miss.site.kind, miss.site.output.name) == ("sinc", "out")
    assert "NaN at zero" in miss.reason


def test_exact_gelu_of_tensorflow():
    def write(op, x):
        return op.Mul(op.Mul(x, 0.5), op.Erfc(op.Mul(op.Neg(x), math.sqrt(0.5))))

    assert found(drawn(write)) == [("gelu", {})]


def test_float16_silu_with_cast_sigmoid():
    def write(op, x):
        return op.Mul(x, op.cast(op.Sigmoid(op.cast(x, "float32")), "float16"))

    (site,) = sites(drawn(write, dtype="float16"))
    assert site.kind == "swish"
    assert len(site.nodes) == 4


def test_float16_silu_between_casts():
    def write(op, x):
        wide = op.cast(x, "float32")
        return op.cast(op.Mul(wide, op.Sigmoid(wide)), "float16")

    (site,) = sites(drawn(write, dtype="float16"))
    assert (site.kind, site.dtype) == ("swish", ir.DataType.FLOAT16)
    assert len(site.nodes) == 4


OTHERS = {
    "gelu": lambda op, x: op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Div(x, ROOT_2)), 1.0)),
    "gelu-tanh": lambda op, x: op.Mul(
        op.Mul(0.5, x),
        op.Add(
            1.0,
            op.Tanh(op.Mul(GELU_SLOPE, op.Add(x, op.Mul(0.044715, op.Pow(x, 3.0))))),
        ),
    ),
    "mish": lambda op, x: op.Mul(x, op.Tanh(op.Log(op.Add(1.0, op.Exp(x))))),
    "hardswish": lambda op, x: op.Div(op.Mul(x, op.Clip(op.Add(x, 3.0), 0.0, 6.0)), 6.0),
    "relu6": lambda op, x: op.Clip(x, 0.0, 6.0),
    "relu": lambda op, x: op.Max(x, 0.0),
    "softplus": lambda op, x: op.Log(op.Add(op.Exp(x), 1.0)),
    "sigmoid": SIGMOIDS["1/(1+exp(-u))"],
    "tanh": lambda op, x: op.Sub(op.Mul(op.Sigmoid(op.Mul(x, 2.0)), 2.0), 1.0),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_activations_decomposed(kind):
    (site,) = sites(drawn(OTHERS[kind]))
    assert (site.kind, site.written == "decomposed") == (kind, len(site.nodes) > 1)


@pytest.mark.parametrize("kind", OTHERS)
def test_gated_units_of_every_gate(kind):
    gated = {"gelu": "geglu", "gelu-tanh": "geglu-tanh", "relu": "reglu"}
    model = drawn(lambda op, a, b: op.Mul(OTHERS[kind](op, a), b), inputs=2)
    (site,) = sites(model)
    if kind == "sigmoid":
        assert (site.kind, [value.name for value in site.inputs]) == ("glu", ["y", "x"])
    else:
        assert site.kind == gated.get(kind, kind)


def test_hardsigmoid_with_another_slope():
    model = drawn(lambda op, x: op.Clip(op.Add(op.Mul(x, 0.25), 0.5), 0.0, 1.0))
    assert found(model) == [("hardsigmoid", {"alpha": 0.25, "beta": 0.5})]


def test_relu6_by_attributes_of_clip():
    assert found(drawn(lambda op, x: op.Clip(x, min=0.0, max=6.0), opset=7)) == [("relu6", {})]


def _unsure(op, x):
    """Write log(1 + exp(x)), or x if exp(x) is large: both are equal from 40 on."""
    grown = op.Exp(x)
    return op.Where(op.Less(grown, 1e30), op.Log(op.Add(1.0, grown)), x)


BRANCHING = {
    "softplus, by the exponential": (_unsure, "softplus"),
    "swish, by what it is": (
        lambda op, x: op.Max(write_swish(op, x), -0.5),
        "swish",
    ),
    "relu, by its square": (
        lambda op, x: op.Where(op.Less(op.Mul(op.Abs(x), x), 0.0), 0.0, x),
        "relu",
    ),
    "hardswish, of two bends": (
        lambda op, x: op.Mul(
            x, op.Div(op.Sub(op.Relu(op.Add(x, 3.0)), op.Relu(op.Sub(x, 3.0))), 6.0)
        ),
        "hardswish",
    ),
    "sigmoid, kept in its range": (lambda op, x: op.Clip(op.Sigmoid(x), 0.0, 1.0), "sigmoid"),
    "tanh, kept in its range": (lambda op, x: op.Clip(op.Tanh(x), -1.0, 1.0), "tanh"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("written", BRANCHING)
def test_agreeing_branches_are_one_function(written, dtype):
    write, kind = BRANCHING[written]
    assert [found for found, _ in found(drawn(write, dtype=dtype))] == [kind]


def test_hardswish_by_hardsigmoid():
    model = drawn(lambda op, x: op.Mul(x, op.HardSigmoid(x, alpha=1 / 6)))
    assert found(model) == [("hardswish", {})]


def test_sigmoid_gate_of_another_input_is_glu():
    assert found(drawn(lambda op, a, b: op.Mul(a, op.Sigmoid(b)), inputs=2)) == [("glu", {})]
