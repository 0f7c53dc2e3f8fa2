"""Formulas of the activations that are neither records nor operators of ONNX.

The other formulas of the catalogue have their homes elsewhere: those of the records in `models`,
those of ONNX's operators in `gatewave.graphs.ops.formulas`, and their parts, such as ``log1p``, in
`gatewave.models.elementary`. All are functions of an abstract ``op``: recognition computes with
them, and `swap` writes them. No branch overflows.
"""

from __future__ import annotations

from typing import Any

from gatewave.graphs.ops import formulas
from gatewave.models.activation import FLOAT32_BITS

EXP_SATURATED = 20.0
"""Bound from which ``tanh(eˣ)`` is 1 to the last bit of float64."""


def clipped(op: Any, x: Any, low: float, high: float) -> Any:
    return op.Min(op.Max(x, low), high)


def softplus(op: Any, x: Any) -> Any:
    """``log(1 + exp(x))``, computed without overflow."""
    # Not by `elementary.log1p`: its `Equal` holds at points that cannot be enumerated, so a graph
    # that `swap` wrote would not be recognised again.
    return op.Add(op.Relu(x), op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), 1.0)))


def squared_relu(op: Any, x: Any) -> Any:
    """``max(0, x)²``. So et al. 2021 (Primer), arXiv 2109.08668."""
    positive = op.Relu(x)
    return op.Mul(positive, positive)


def log_sigmoid(op: Any, x: Any) -> Any:
    """``log(σ(x))``, which is ``min(x, 0) - log(1 + exp(-|x|))``."""
    return op.Sub(op.Min(x, 0.0), op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), 1.0)))


def hardshrink(op: Any, x: Any, lambd: Any = 0.5) -> Any:
    """``x`` where its magnitude is greater than λ, and 0 elsewhere, as `torch.nn.Hardshrink`."""
    return op.Where(op.Less(lambd, op.Abs(x)), x, 0.0)


def softshrink(op: Any, x: Any, lambd: Any = 0.5) -> Any:
    """``x`` less λ towards 0, and 0 within λ of it: as `torch.nn.Softshrink`."""
    return op.Sub(x, op.Min(op.Max(x, -lambd), lambd))


def swoosh_l(op: Any, x: Any, offset: Any = 0.035, slope: Any = 0.08) -> Any:
    """``log(1 + exp(x - 4)) - 0.08x - 0.035``. Yao et al. 2023 (Zipformer), arXiv 2310.11230."""
    return _swoosh(op, x, 4.0, offset, slope)


def swoosh_r(op: Any, x: Any, offset: Any = 0.313261687, slope: Any = 0.08) -> Any:
    """``log(1 + exp(x - 1)) - 0.08x - 0.313261687``. Yao et al. 2023, arXiv 2310.11230."""
    return _swoosh(op, x, 1.0, offset, slope)


def _swoosh(op: Any, x: Any, shift: float, offset: Any, slope: Any) -> Any:
    return op.Sub(op.Sub(softplus(op, op.Sub(x, shift)), op.Mul(x, slope)), offset)


def snake(
    op: Any, x: Any, alpha: Any = 1.0, beta: Any = None, *, phase: float = 1.0, gain: float = 1.0
) -> Any:
    """``x + sin²(αx)/α``; SnakeBeta divides by a β of its own.

    Ziyin et al. 2020, arXiv 2006.08195; Lee et al. 2023 (BigVGAN), arXiv 2206.04658. ``phase`` and
    ``gain`` are 1, apart from the rounding of the constants.
    """
    wave = op.Sin(op.Mul(x, alpha if phase == 1.0 else alpha * phase))
    bump = op.Div(op.Mul(wave, wave), alpha if beta is None else beta)
    return op.Add(x, bump if gain == 1.0 else op.Mul(bump, gain))


def tanh_exp(op: Any, x: Any) -> Any:
    """``x · tanh(eˣ)``. Liu and Di 2020, arXiv 2003.09855."""
    return op.Mul(x, op.Tanh(op.Exp(op.Min(x, EXP_SATURATED))))


def logish(op: Any, x: Any) -> Any:
    """``x · log(1 + σ(x))``. Zhu et al. 2021, doi 10.1016/j.neucom.2021.06.067."""
    return op.Mul(x, op.Log(op.Add(op.Sigmoid(x), 1.0)))


def smish(op: Any, x: Any) -> Any:
    """``x · tanh(log(1 + σ(x)))``. Wang et al. 2022, doi 10.3390/electronics11040540."""
    return op.Mul(x, op.Tanh(op.Log(op.Add(op.Sigmoid(x), 1.0))))


def serf(op: Any, x: Any) -> Any:
    """``x · erf(log(1 + eˣ))``. Nag et al. 2021, arXiv 2108.09598."""
    if op.precision_bits == FLOAT32_BITS:
        return op.Mul(x, op.Erf(softplus(op, x)))
    return op.Mul(x, op.Sub(1.0, formulas.erfc(op, softplus(op, x))))
