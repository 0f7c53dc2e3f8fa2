"""Activations with a parameter for each channel, as exporters write them."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn
from running import run

from gatewave.graphs.recognition.sites import sites, survey
from gatewave.graphs.rewrite.fuse import fuse
from gatewave.graphs.rewrite.inspection import inspect, report
from gatewave.graphs.rewrite.swap import swap

SHAPE = (2, 4, 3)
SLOPES = np.array([0.1, 0.25, 0.3, 0.5], np.float32).reshape(4, 1)
ALPHAS = np.array([0.5, 0.75, 2.0, 30.0], np.float32).reshape(1, 4, 1)
BETAS = np.array([0.25, 1.0, 3.0, 8.0], np.float32).reshape(1, 4, 1)


def _prelu(op, x, slopes=SLOPES):
    return op.PRelu(x, op.tensor(slopes))


def _wave(op, x, alphas, scales):
    angle = op.Mul(x, op.tensor(alphas))
    return op.Add(x, op.Mul(op.tensor(scales), op.Pow(op.Sin(angle), 2.0)))


SPELLINGS = {
    "prelu": ("prelu", _prelu),
    "prelu, jax": (
        "prelu",
        lambda op, x: op.Where(op.GreaterOrEqual(x, 0.0), x, op.Mul(op.tensor(SLOPES), x)),
    ),
    "prelu, keras": (
        "prelu",
        lambda op, x: op.Add(
            op.Relu(x), op.Mul(op.Neg(op.tensor(SLOPES)), op.Relu(op.Neg(x)))
        ),
    ),
    "prelu, by the greatest": (
        "prelu", lambda op, x: op.Max(x, op.Mul(op.tensor(SLOPES), x)),
    ),
    "prelu of one slope": (
        "prelu", lambda op, x: _prelu(op, x, np.full((4, 1), 0.25, np.float32)),
    ),
    "prelu, also a relu": (
        "prelu", lambda op, x: _prelu(op, x, SLOPES * np.float32([[0], [1], [1], [1]])),
    ),
    "snake": ("snake", lambda op, x: _wave(op, x, ALPHAS, 1 / (ALPHAS + np.float32(1e-9)))),
    "snake, not folded": (
        "snake",
        lambda op, x: op.Add(
            x,
            op.Mul(
                op.Reciprocal(op.Add(op.tensor(ALPHAS), 1e-9)),
                op.Pow(op.Sin(op.Mul(op.tensor(ALPHAS), x)), 2.0),
            ),
        ),
    ),
    "snake-beta": ("snake-beta", lambda op, x: _wave(op, x, ALPHAS, 1 / BETAS)),
    "snake-beta, logarithmic": (
        "snake-beta",
        lambda op, x: op.Add(
            x,
            op.Mul(
                op.Reciprocal(op.Add(op.Exp(op.tensor(np.log(BETAS))), 1e-9)),
                op.Pow(op.Sin(op.Mul(x, op.Exp(op.tensor(np.log(ALPHAS))))), 2.0),
            ),
        ),
    ),
}  # fmt: skip

RANGES = {
    "prelu": {"alpha": (0.1, 0.5)},
    "snake": {"alpha": (0.5, 30.0)},
    "snake-beta": {"alpha": (0.5, 30.0), "beta": (0.25, 8.0)},
}


@pytest.mark.parametrize("style", ["initializer", "node"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_activations_with_parameters_per_channel(spelling, style):
    kind, write = SPELLINGS[spelling]
    surveyed = survey(drawn(write, shape=SHAPE, style=style))
    assert [(site.kind, dict(site.reals)) for site in surveyed.sites] == [(kind, {})]
    assert surveyed.near_misses == []
    (site,) = surveyed.sites
    if spelling in {"prelu of one slope", "prelu, also a relu"}:
        return
    for name, (least, greatest) in RANGES[kind].items():
        one = site.ranges[name]
        assert (one.least, one.greatest) == pytest.approx((least, greatest), rel=1e-6)
        assert one.count == 4


def test_a_slope_that_is_computed_makes_a_prelu():
    (site,) = sites(drawn(lambda op, x, slope: op.PRelu(x, slope), inputs=2))
    assert (site.kind, dict(site.reals), dict(site.ranges)) == ("prelu", {}, {})
    assert [value.name for value in site.inputs] == ["x"]


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_slope_for_all_makes_a_leaky_relu(shape):
    model = drawn(lambda op, x: _prelu(op, x, np.full(shape, 0.25, np.float32)))
    ((kind, reals),) = [(site.kind, dict(site.reals)) for site in sites(model)]
    assert (kind, reals) == ("leaky-relu", {"alpha": 0.25})


NOT_ONE = {
    "another activation in one channel": lambda op, x: op.Add(
        x,
        op.Mul(
            op.tensor(np.array([1.0, 1.0, 1.0, 0.0], np.float32).reshape(4, 1)),
            op.Pow(op.Sin(x), 2.0),
        ),
    ),
    "a sum with a row": lambda op, x: op.Add(op.Relu(x), op.tensor(SLOPES)),
    "a product with a row": lambda op, x: op.Mul(op.Relu(x), op.tensor(SLOPES)),
    "a cubed wave": lambda op, x: op.Add(
        x, op.Mul(op.tensor(1 / ALPHAS), op.Pow(op.Sin(op.Mul(x, op.tensor(ALPHAS))), 3.0))
    ),
    "rows along two axes": lambda op, x: op.Max(
        op.Mul(x, op.tensor(SLOPES)),
        op.Mul(x, op.tensor(np.array([0.5, 1.0, 1.5], np.float32))),
    ),
}


@pytest.mark.parametrize("wrong", NOT_ONE)
def test_other_functions_of_channels_are_none(wrong):
    model = drawn(NOT_ONE[wrong], shape=SHAPE)
    assert "out" not in {site.output.name for site in sites(model)}


def test_the_report_has_the_range_of_each_parameter():
    model = drawn(SPELLINGS["snake-beta"][1], shape=SHAPE)
    (activation,) = report(inspect(model))["activations"]
    assert (activation["kind"], activation["parameters"]) == ("snake-beta", {})
    assert activation["per_channel"] == {
        "alpha": {"least": 0.5, "greatest": 30.0, "count": 4},
        "beta": {"least": pytest.approx(0.25), "greatest": pytest.approx(8.0), "count": 4},
    }


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_it_is_swapped_and_not_fused(spelling):
    kind, write = SPELLINGS[spelling]
    model = drawn(write, shape=SHAPE)
    outcome = fuse(ir.from_proto(ir.to_proto(model)), kinds=[kind])
    assert outcome.changes == []
    assert [one.reason for one in outcome.skipped] == ["there is no operator of ours for it"]
    swapped = swap(model, source=kind, to="relu")
    assert [change.output for change in swapped.changes] == ["out"]
    assert [node.op_type for node in model.graph] == ["Relu"]
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(SHAPE)
    np.testing.assert_array_equal(run(model, {"x": x})[0], np.maximum(x, 0))


def test_row_that_may_broadcast_is_left():
    drawing = Drawing(shape=("n", "m", 3))
    x = drawing.input("x")
    drawing.output(_wave(drawing, x, ALPHAS, 1 / ALPHAS), "out", shape=("n", "k", 3))
    model = drawing.model()
    surveyed = survey(model)
    assert [site.kind for site in surveyed.sites] == ["snake"]
    (miss,) = surveyed.near_misses
    assert "are not known to leave that of x" in miss.reason
    assert swap(model, source="snake", to="relu").changes == []
