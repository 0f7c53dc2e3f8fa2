"""The standard normal distribution function Φ, which the exact GELU is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gatewave.models.activation import FLOAT32_BITS, FLOAT64_BITS

# Numbers, not a computation: mpmath takes a quarter of a second to import, and each start of
# `gatewave inspect` needs them. The tests compute them again.
# fmt: off
ERFCX: tuple[float, ...] = (
    0.37737609962585944, 0.4825091196506807, 0.12232459533097705, 0.017831149719276792,
    0.00032117365249439837, -0.0003503952564796157, -2.243880650620326e-05, 1.0537433119356064e-05,
    5.671331132647553e-07, -4.297681576665876e-07, 5.104952512865141e-09, 1.8899699318179606e-08,
    -2.242755529856193e-09, -6.855254370550185e-10, 2.1487959525733994e-10, 5.515409718485674e-12,
    -1.3477495048063454e-11, 2.0863894672105998e-12, 4.481881445148597e-13, -2.2684175777875652e-13,
    1.8505867519748427e-14, 1.1509611397547722e-14, -4.00989014707125e-15, 1.3982845705777133e-16,
    2.635380772175244e-16, -7.953987696969462e-17, 9.151033515546319e-19, 6.071172780200626e-18,
    -1.806095710895107e-18, 2.69762181618846e-20, 1.4381261422622832e-19, -4.6412203821304233e-20,
    2.0362599032219945e-21, 3.449143464080188e-21, -1.307281347649728e-21, 1.2028331490556615e-22,
    7.9992903532887e-23, -3.872309029965948e-23, 5.937536504609093e-24, 1.3437329120653522e-24,
)
# fmt: on
"""Chebyshev coefficients of ``erfcx((2 - 2t) / (1 + t))``: interpolation at 40 points."""

# The first omitted coefficient is 1.3e-11 for float32, and below 1e-24 for float64.
TERMS: Mapping[int, int] = MappingProxyType({FLOAT32_BITS: 16, FLOAT64_BITS: 40})
"""Number of `ERFCX`'s terms that matter, by the bits of the working precision."""

FAR: Mapping[int, float] = MappingProxyType({FLOAT32_BITS: 1e30, FLOAT64_BITS: 1e100})
"""Distance beyond which ``t`` is -1 to the last bit, by the bits of the working precision."""


def normal_cdf(op: Any, a: Any) -> Any:
    """``Φ(a) = (1 + erf(a/√2)) / 2``, to an absolute error of a few units in the last place of 1.

    In float64 without the operator Erf: ONNX Runtime has it for float32 only.
    """
    scaled = op.Mul(a, math.sqrt(0.5))
    if op.precision_bits == FLOAT32_BITS:
        # 1 + erf cancels on the left, but stays within the absolute error that is promised here.
        return op.Mul(op.Add(op.Erf(scaled), 1.0), 0.5)
    distance = op.Abs(scaled)
    tail = op.Mul(op.Mul(op.Exp(op.Neg(op.Mul(scaled, scaled))), erfcx(op, distance)), 0.5)
    return op.Where(op.Less(a, 0.0), tail, op.Sub(1.0, tail))


def erfcx(op: Any, distance: Any) -> Any:
    """``exp(x²) · erfc(x)`` for ``x >= 0``, by Clenshaw's rule in ``t = (2 - x) / (2 + x)``."""
    t = op.Div(op.Sub(2.0, distance), op.Add(2.0, distance))
    # At infinity the quotient is ∞/∞; what it multiplies is 0 there.
    t = op.Where(op.Greater(distance, FAR[op.precision_bits]), -1.0, t)
    double_t = op.Mul(t, 2.0)
    first, *rest = ERFCX[: TERMS[op.precision_bits]]
    later: Any = op.Mul(t, 0.0)
    last: Any = later
    for coefficient in reversed(rest):
        # The coefficient comes first: Torch's exporter drops additions of less than 1e-8.
        last, later = op.Add(op.Mul(double_t, last), op.Sub(coefficient, later)), last
    return op.Add(op.Mul(t, last), op.Sub(first, later))
