"""Activations without a record, in the spellings of Torch's exporters, JAX, tf2onnx and icefall."""

import onnx_ir as ir
import pytest
from drawing import drawn
from recognised import found

from gatewave.graphs.recognition.sites import sites


def _log_sum(op, x, y):
    """Write log(eˣ + eʸ) as icefall exports it, and as JAX writes it."""
    far = op.Neg(op.Abs(op.Sub(x, y)))
    return op.Add(op.Max(x, y), op.Log(op.Add(op.Exp(far), 1.0)))


def _swoosh(op, x, shift, offset, log_sum=_log_sum):
    total = log_sum(op, op.number(0.0), op.Sub(x, shift))
    return op.Sub(op.Sub(total, op.Mul(0.08, x)), offset)


def _plain_log_sum(op, x, y):
    """Write log(eˣ + eʸ) as Torch's newer exporter does."""
    return op.Log(op.Add(op.Exp(x), op.Exp(y)))


def _squared(op, x):
    return op.Mul(x, x)


def _as_bool(op, condition):
    return op.Cast(condition, to=ir.DataType.BOOL.value)


SPELLINGS = {
    "softsign": ("softsign", lambda op, x: op.Softsign(x)),
    "softsign, decomposed": ("softsign", lambda op, x: op.Div(x, op.Add(op.Abs(x), 1.0))),
    "softsign, jax": ("softsign", lambda op, x: op.Div(x, op.Add(1.0, op.Abs(x)))),
    "log-sigmoid, torch": ("log-sigmoid", lambda op, x: op.Log(op.Sigmoid(x))),
    "log-sigmoid, tf": ("log-sigmoid", lambda op, x: op.Neg(op.Softplus(op.Neg(x)))),
    "log-sigmoid, jax": (
        "log-sigmoid", lambda op, x: op.Neg(_log_sum(op, op.Neg(x), op.number(0.0))),
    ),
    "log-sigmoid, min": (
        "log-sigmoid",
        lambda op, x: op.Sub(
            op.Min(x, 0.0), op.Log(op.Add(1.0, op.Exp(op.Neg(op.Abs(x)))))
        ),
    ),
    "hardtanh": ("hardtanh", lambda op, x: op.Clip(x, -1.0, 1.0)),
    "hardtanh, jax": (
        "hardtanh",
        lambda op, x: op.Where(
            op.Greater(x, 1.0), 1.0, op.Where(op.Less(x, -1.0), -1.0, x)
        ),
    ),
    "tanhshrink": ("tanhshrink", lambda op, x: op.Sub(x, op.Tanh(x))),
    "squared-relu": ("squared-relu", lambda op, x: op.Pow(op.Relu(x), 2.0)),
    "squared-relu, product": ("squared-relu", lambda op, x: _squared(op, op.Relu(x))),
    "swoosh-l": ("swoosh-l", lambda op, x: _swoosh(op, x, 4.0, 0.035)),
    "swoosh-l, torch": (
        "swoosh-l", lambda op, x: _swoosh(op, x, 4.0, 0.035, _plain_log_sum),
    ),
    "swoosh-l, softplus": (
        "swoosh-l",
        lambda op, x: op.Sub(
            op.Softplus(op.Sub(x, 4.0)), op.Add(op.Mul(x, 0.08), 0.035)
        ),
    ),
    "swoosh-r": ("swoosh-r", lambda op, x: _swoosh(op, x, 1.0, 0.313261687)),
    "swoosh-r, torch": (
        "swoosh-r", lambda op, x: _swoosh(op, x, 1.0, 0.313261687, _plain_log_sum),
    ),
    "lisht": ("lisht", lambda op, x: op.Mul(x, op.Tanh(x))),
    "tanh-exp": ("tanh-exp", lambda op, x: op.Mul(x, op.Tanh(op.Exp(x)))),
    "logish": ("logish", lambda op, x: op.Mul(x, op.Log(op.Add(1.0, op.Sigmoid(x))))),
    "smish": ("smish", lambda op, x: op.Mul(x, op.Tanh(op.Log(op.Add(1.0, op.Sigmoid(x)))))),
    "serf": ("serf", lambda op, x: op.Mul(x, op.Erf(op.Softplus(x)))),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_activations_without_parameters_are_found(spelling, dtype):
    kind, write = SPELLINGS[spelling]
    assert found(drawn(write, dtype=dtype)) == [(kind, {})]


def _snake(op, x, alpha, beta, wave=lambda op, u: op.Pow(op.Sin(u), 2.0)):
    return op.Add(x, op.Mul(beta, wave(op, op.Mul(alpha, x))))


def _halved(op, angle):
    """Write sin²(u) as (1 - cos(2u)) / 2."""
    return op.Mul(op.Sub(1.0, op.Cos(op.Mul(angle, 2.0))), 0.5)


WITH_PARAMETERS = {
    "celu": ("celu", {"alpha": 2.0}, lambda op, x: op.Celu(x, alpha=2.0)),
    "celu, jax": (
        "celu",
        {"alpha": 0.75},
        lambda op, x: op.Where(
            op.Greater(x, 0.0),
            x,
            op.Mul(
                0.75,
                op.Sub(
                    op.Exp(op.Div(op.Where(op.Greater(x, 0.0), 0.0, x), 0.75)), 1.0
                ),
            ),
        ),
    ),
    "celu, tf": (
        "celu",
        {"alpha": 2.0},
        lambda op, x: op.Add(
            op.Relu(x),
            op.Mul(op.Elu(op.Neg(op.Relu(op.Neg(op.Div(x, 2.0))))), 2.0),
        ),
    ),
    "thresholded-relu": (
        "thresholded-relu", {"alpha": 1.0}, lambda op, x: op.ThresholdedRelu(x),
    ),
    "thresholded-relu with alpha": (
        "thresholded-relu", {"alpha": 0.7}, lambda op, x: op.ThresholdedRelu(x, alpha=0.7),
    ),
    "thresholded-relu, torch": (
        "thresholded-relu",
        {"alpha": 0.7},
        lambda op, x: op.Where(op.LessOrEqual(x, 0.7), 0.0, x),
    ),
    "thresholded-relu, keras": (
        "thresholded-relu",
        {"alpha": 0.7},
        lambda op, x: op.Mul(x, op.Cast(op.Greater(x, 0.7), to=ir.DataType.FLOAT.value)),
    ),
    "hardshrink": (
        "hardshrink", {"lambd": 0.5}, lambda op, x: op.Shrink(x, lambd=0.5),
    ),
    "hardshrink, torch": (
        "hardshrink",
        {"lambd": 0.3},
        lambda op, x: op.Where(op.LessOrEqual(op.Abs(x), 0.3), 0.0, x),
    ),
    "hardshrink, torchscript": (
        "hardshrink",
        {"lambd": 0.3},
        lambda op, x: op.Where(
            op.Or(_as_bool(op, op.Greater(x, 0.3)), _as_bool(op, op.Less(x, -0.3))), x, 0.0
        ),
    ),
    "softshrink": (
        "softshrink", {"lambd": 0.5}, lambda op, x: op.Shrink(x, bias=0.5, lambd=0.5),
    ),
    "softshrink, torch": (
        "softshrink",
        {"lambd": 0.3},
        lambda op, x: op.Where(
            op.Greater(op.Abs(x), 0.3), op.Sub(x, op.Mul(op.Sign(x), 0.3)), op.Mul(x, 0.0)
        ),
    ),
    "snake": ("snake", {"alpha": 0.7}, lambda op, x: _snake(op, x, 0.7, 1 / 0.7)),
    "snake of 1": (
        "snake", {"alpha": 1.0}, lambda op, x: op.Add(x, op.Pow(op.Sin(x), 2.0)),
    ),
    "snake of 30": ("snake", {"alpha": 30.0}, lambda op, x: _snake(op, x, 30.0, 1 / 30.0)),
    "snake, guarded": (
        "snake", {"alpha": 0.25}, lambda op, x: _snake(op, x, 0.25, 1 / (0.25 + 1e-9)),
    ),
    "snake, by a cosine": (
        "snake", {"alpha": 5.0}, lambda op, x: _snake(op, x, 5.0, 0.2, _halved),
    ),
    "snake, divided": (
        "snake",
        {"alpha": 20.0},
        lambda op, x: op.Add(op.Div(op.Pow(op.Sin(op.Mul(x, 20.0)), 2.0), 20.0), x),
    ),
    "snake-beta": (
        "snake-beta",
        {"alpha": 0.7, "beta": 0.2},
        lambda op, x: _snake(op, x, 0.7, 1 / 0.2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("spelling", WITH_PARAMETERS)
def test_activations_are_found_with_their_parameters(spelling):
    kind, reals, write = WITH_PARAMETERS[spelling]
    ((got, parameters),) = found(drawn(write))
    assert (got, parameters) == (kind, pytest.approx(reals, rel=2e-7))


NOT_ONE = {
    "another slope in swoosh": lambda op, x: op.Sub(
        op.Sub(op.Softplus(op.Sub(x, 4.0)), op.Mul(x, 0.081)), 0.035
    ),
    "another offset in swoosh": lambda op, x: _swoosh(op, x, 1.0, 0.31326),
    "another amplitude without a wave": lambda op, x: op.Add(x, op.Mul(op.Sin(x), 0.5)),
    "another range": lambda op, x: op.Clip(x, -1.0, 1.5),
    "a cube": lambda op, x: op.Pow(op.Relu(x), 3.0),
    "a tanh of a cube": lambda op, x: op.Mul(x, op.Tanh(op.Pow(x, 3.0))),
    "a shrink of two widths": lambda op, x: op.Shrink(x, bias=0.25, lambd=0.5),
    "a threshold that gives another number": lambda op, x: op.Where(
        op.Greater(x, 0.7), x, 0.1
    ),
    "a logarithm of another": lambda op, x: op.Log(op.Add(op.Sigmoid(x), 1e-3)),
}  # fmt: skip


@pytest.mark.parametrize("wrong", NOT_ONE)
def test_what_is_nearly_one_is_none(wrong):
    assert "out" not in {site.output.name for site in sites(drawn(NOT_ONE[wrong]))}
