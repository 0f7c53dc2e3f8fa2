"""Functions that are nearly an activation, and are not found."""

import math

import numpy as np
import pytest
from drawing import Drawing, drawn
from recognised import GUARDED, found, write_sinc, write_swish

from gatewave.graphs.recognition.sites import sites

GELU_SLOPE = math.sqrt(2 / math.pi)


NOT_ONE = {
    "another constant in sinc": lambda op, x: write_sinc(op, x, pi=3.1416),
    "another condition in sinc": lambda op, x: write_sinc(
        op, x, condition=lambda op, x, _: op.Equal(x, 0.1234)
    ),
    "a condition that is no line": lambda op, x: op.Where(
        op.Equal(op.Exp(x), 5.0), 1.0, op.Mul(x, op.Sigmoid(x))
    ),
    "both inputs one": lambda op, x: op.Mul(op.Mul(x, op.Sigmoid(x)), x),
    "a narrow exception": lambda op, x: op.Where(
        op.Less(op.Abs(op.Sub(x, 0.625)), 0.01), 1.0, op.Mul(x, op.Sigmoid(x))
    ),
    "a one-sided condition": lambda op, x: write_sinc(
        op, x, condition=lambda op, x, _: op.Less(x, 1e-6)
    ),
    "too wide a guard": lambda op, x: write_sinc(
        op, x, condition=lambda op, x, _: op.Less(op.Abs(x), 0.01)
    ),
    "an unguarded sinc": lambda op, x: op.Div(op.Sin(op.Mul(x, math.pi)), op.Mul(x, math.pi)),
    "exp(-x)+2": lambda op, x: op.Div(x, op.Add(op.Exp(op.Neg(x)), 2.0)),
    "another root in gelu": lambda op, x: op.Mul(
        op.Mul(x, 0.5), op.Add(op.Erf(op.Div(x, 1.4142)), 1.0)
    ),
    "another cubic in gelu": lambda op, x: op.Mul(
        op.Mul(0.5, x),
        op.Add(1.0, op.Tanh(op.Mul(GELU_SLOPE, op.Add(x, op.Mul(0.0447, op.Pow(x, 3.0)))))),
    ),
    "x·x": lambda op, x: op.Mul(x, x),
    "clipped": lambda op, x: op.Clip(x, -1.0, 6.5),
    "x·exp(x)": lambda op, x: op.Mul(x, op.Exp(x)),
}


GUARDS = {
    "added": lambda op, y, least: op.Add(y, least),
    "the least": lambda op, y, least: op.Max(y, least),
    "clipped": lambda op, y, least: op.Clip(y, least),
}


@pytest.mark.parametrize("least", [1e-9, 1e-13, 1e-30])
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("kind", GUARDED)
def test_guard_against_zero_is_outside(kind, guard, least):
    # A logarithm follows, so a value that is nearly 0 is not 0.
    model = drawn(lambda op, x: op.Log(GUARDS[guard](op, GUARDED[kind](op, x), least)))
    (site,) = sites(model)
    assert site.kind == kind.split()[0]
    assert {node.op_type for node in site.nodes} & {"Max", "Clip"} == set()
    assert len(site.nodes) == len(drawn(GUARDED[kind]).graph)


@pytest.mark.parametrize("least", [1e-12, 1e-30])
def test_clip_to_a_tiny_minimum_is_no_relu(least):
    assert found(drawn(lambda op, x: op.Reciprocal(op.Clip(x, least)))) == []
    assert found(drawn(lambda op, x: op.Reciprocal(op.Clip(x, 0.0)))) == [("relu", {})]


@pytest.mark.parametrize("limit", [20.0, 30.0, 100.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clamped_gate_makes_no_swish(limit, dtype):
    # σ(-30) is 1e-13: times -1e15 it is no 0.
    def write(op, x):
        return op.Mul(x, op.Sigmoid(op.Clip(x, -limit, limit)))

    assert "swish" not in {kind for kind, _ in found(drawn(write, dtype=dtype))}


def test_branch_for_nan_alone_is_outside():
    def write(op, x):
        return op.Where(op.Equal(x, x), op.Mul(x, op.Sigmoid(x)), 0.0)

    (site,) = sites(drawn(write))
    assert (site.kind, site.root.op_type) == ("swish", "Mul")


UNSOUND = {
    "the greatest of nothing": lambda op, x: op.Mul(x, op.Add(op.Sigmoid(x), op.Max())),
    "a choice of nothing": lambda op, x: op.node("Where", [op.Sigmoid(x)]),
    "a sum of three": lambda op, x: op.Mul(x, op.node("Add", [op.Sigmoid(x), x, x])),
    "the opposite of two": lambda op, x: op.Mul(x, op.node("Neg", [op.Sigmoid(x), x])),
    "a great power": lambda op, x: op.Mul(
        op.Sigmoid(x), op.node("FastGelu", [op.number(1e38)], domain="com.microsoft")
    ),
}


@pytest.mark.parametrize("unsound", UNSOUND)
def test_operators_with_wrong_inputs_are_ignored(unsound):
    model = drawn(UNSOUND[unsound])
    assert {kind for kind, _ in found(model)} <= {"sigmoid"}


@pytest.mark.parametrize("wrong", NOT_ONE)
def test_slightly_different_functions_are_not_found(wrong):
    # A part of it may be an activation.
    parts = sites(drawn(NOT_ONE[wrong]))
    assert {site.kind for site in parts} <= {"tanh", "hardsigmoid", "swish"}
    assert "out" not in {site.output.name for site in parts}


def _bumped(op, x, square, width):
    """Write Swish plus a triangle at x² = ``square``, of width 1 / ``width`` in x²."""
    far = op.Abs(op.Sub(op.Mul(x, x), square))
    return op.Add(write_swish(op, x), op.Mul(1000.0, op.Max(op.Sub(1.0, op.Mul(far, width)), 0.0)))


def _steps(op, x):
    return op.Add(write_swish(op, x), op.Floor(op.Mul(op.Mul(x, x), 1e-6)))


def _bends_again(op, x):
    bent = op.Max(op.Sub(x, 1000.0), 0.0)
    return op.Add(op.Relu(x), op.Max(op.Sub(bent, 5e6), 0.0))


FAR_OFF = {
    "a bump far out": lambda op, x: _bumped(op, x, 40200.0, 0.01),
    "a narrow bump": lambda op, x: _bumped(op, x, 40200.0, 1.0),
    "a bump between the points": lambda op, x: _bumped(op, x, 1700.0, 10.0),
    "a bump beyond the fine grid": lambda op, x: _bumped(op, x, 1e14, 1e-6),
    "a square": lambda op, x: op.Where(op.Greater(op.Mul(x, x), 1e6), 0.0, write_swish(op, x)),
    "a small square": lambda op, x: op.Where(op.Less(op.Mul(x, x), 1e-30), 1.0, write_swish(op, x)),
    "another number": lambda op, x: op.Where(op.Greater(op.Mul(x, x), 1e6), 1e6, op.Relu(x)),
    "no number": lambda op, x: op.Where(op.Greater(op.Mul(x, x), 1e6), math.inf, op.Relu(x)),
    "an exponential": lambda op, x: op.Where(op.Greater(op.Exp(x), 1e37), -7.0, op.Relu(x)),
    "a limit": lambda op, x: op.Add(
        write_swish(op, x), op.Sub(op.Pow(x, 3.0), op.Clip(op.Pow(x, 3.0), -1e9, 1e9))
    ),
    "an equality": lambda op, x: op.Where(op.Equal(op.Exp(x), 1e30), 1.0, write_swish(op, x)),
    "steps": _steps,
    "a power": lambda op, x: op.Add(write_swish(op, x), op.Mul(op.Pow(x, 8.0), 1e-30)),
    "a bend behind a bend": _bends_again,
    "waves": lambda op, x: op.Add(
        write_swish(op, x), op.Mul(op.Max(op.Sub(op.Sin(op.Mul(x, 0.02)), 0.95), 0.0), 0.1)
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wrong", FAR_OFF)
def test_functions_that_differ_far_out_are_not_found(wrong, dtype):
    model = drawn(FAR_OFF[wrong], dtype=dtype)
    assert "out" not in {site.output.name for site in sites(model)}


WEIGHTED = {
    "times a row": lambda op, x, row: op.Mul(x, row),
    "times a row that a caller may give": lambda op, x, row: (
        op.inputs.append(row) or op.Mul(row, x)
    ),
    "and a row more": lambda op, x, row: op.Add(op.Mul(x, row), row),
    "divided by what a row is made to": lambda op, x, row: op.Div(x, op.Exp(row)),
    "kept small": lambda op, x, _: op.Clip(x, -30.0, 30.0),
}


@pytest.mark.parametrize("written", WEIGHTED)
def test_weighted_gate_of_itself_is_no_glu(written):
    drawing = Drawing()
    x = drawing.input("x")
    row = drawing.tensor(np.array([1, 2, 3, 4], np.float32))
    gate = drawing.Sigmoid(WEIGHTED[written](drawing, x, row))
    drawing.output(drawing.Mul(x, gate))
    assert found(drawing.model()) == [("sigmoid", {})]


def test_gate_moved_by_another_input_is_glu():
    def write(op, x, y):
        return op.Mul(x, op.Sigmoid(op.Add(op.Mul(x, 2.0), y)))

    assert found(drawn(write, inputs=2)) == [("glu", {})]
