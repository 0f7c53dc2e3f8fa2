"""Sites whose inner values have other uses."""

import math

import numpy as np
import pytest
from drawing import Drawing, shared_gate
from recognised import found

from gatewave.graphs.recognition.sites import survey


def _as_jax_writes_it(op, x, taken=None):
    """Write sinc as JAX does: the 1 is expanded to the shape of the angle."""
    angle = op.Mul(math.pi, x)
    rows = op.Gather(op.Shape(angle), op.tensor(np.array([0])), axis=0)
    shape = op.Concat(rows, op.tensor(np.array([4])), axis=0)
    if taken is not None:
        taken.append(shape)
    is_zero = op.Equal(x, 0.0)
    one = op.Expand(op.number(1.0), shape)
    safe = op.Where(is_zero, one, angle)
    near = op.Add(op.Mul(angle, 0.0), 1.0)
    return op.Where(is_zero, near, op.Div(op.Sin(safe), safe))


@pytest.mark.parametrize("used", [False, True])
def test_constant_shaped_like_inner_value_is_inside(used):
    drawing, taken = Drawing(), []
    drawing.output(_as_jax_writes_it(drawing, drawing.input("x"), taken), "out")
    if used:
        drawing.output(taken[0], "shape", shape=(2,), dtype="int64")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["sinc"] * (not used)
    if not used:
        assert len(surveyed.sites[0].nodes) == len(drawing.nodes)


def test_inner_value_that_is_an_output_stays():
    drawing = Drawing()
    x = drawing.input("x")
    gate = drawing.output(drawing.Sigmoid(x), "gate")
    drawing.output(drawing.Mul(x, gate), "out")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["sigmoid"]
    assert [miss.reason for miss in surveyed.near_misses] == [
        "gate, inside it, is an output of the graph"
    ]


def test_inner_value_with_another_use_stays():
    drawing = Drawing()
    x = drawing.input("x")
    gate = drawing.Sigmoid(x)
    drawing.output(drawing.Mul(x, gate), "out")
    drawing.output(drawing.Softmax(gate), "other")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["sigmoid"]
    assert "is used by Softmax_2 too" in surveyed.near_misses[0].reason


@pytest.mark.parametrize("used", [False, True])
def test_constant_typed_like_inner_value_is_inside(used):
    # As Torch writes x·tanh(softplus(x)), if it does not optimize: softplus has a threshold.
    drawing = Drawing(opset=18)
    x = drawing.input("x")
    scaled = drawing.Mul(x, 1.0)
    threshold = drawing.CastLike(drawing.number(20.0, "float64"), scaled)
    steep = drawing.Greater(scaled, threshold)
    softplus = drawing.Where(steep, x, drawing.Div(drawing.Softplus(scaled), 1.0))
    drawing.output(drawing.Mul(x, drawing.Tanh(softplus)), "out")
    if used:
        drawing.output(threshold, "threshold", shape=())
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites if site.output.name == "out"] == ["mish"] * (
        not used
    )


def test_two_activations_share_an_inner_value():
    assert found(shared_gate()) == [("swish", {"alpha": 1.0}), ("glu", {})]


def test_swish_with_another_use_is_no_swiglu():
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    swish = drawing.Mul(x, drawing.Sigmoid(x))
    drawing.output(drawing.Mul(swish, y), "one")
    drawing.output(drawing.Softmax(swish), "two")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["swish"]
    assert [miss.site.kind for miss in surveyed.near_misses] == ["swiglu-linear"]
