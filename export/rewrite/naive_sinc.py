"""Sinc as it is usually decomposed: ``Where(πx = 0, 1, sin(πx) / πx)``.

Where πx is so small that the quotient is 0/0, or a runtime flushes it to 0 on one side only, this
gives infinity or NaN instead of 1.
"""

from __future__ import annotations

import math

import onnx_ir as ir

NEAR = 2e-3
"""π rounded to 16 bits is still within this."""


def argument(node: ir.Node) -> ir.Value | None:
    """The ``x`` that ``node`` gives the sinc of; None, if it gives something else."""
    if node.op_type != "Where" or node.domain:
        return None
    condition, one, quotient = node.inputs
    angle = _tested(condition)
    if angle is None or _scalar(one) != 1.0 or not _is_quotient(quotient, angle):
        return None
    return _scaled(angle)


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    made = value.producer() if value is not None else None
    return made if made is not None and made.op_type == op_type and not made.domain else None


def _scalar(value: ir.Value | None) -> float | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or tensor.size != 1:
        return None
    return float(tensor.numpy().item())


def _tested(condition: ir.Value | None) -> ir.Value | None:
    """``t`` of ``t = 0``."""
    equal = _maker(condition, "Equal")
    if equal is None or _scalar(equal.inputs[1]) != 0.0:
        return None
    return equal.inputs[0]


def _is_quotient(value: ir.Value | None, angle: ir.Value) -> bool:
    division = _maker(value, "Div")
    if division is None or division.inputs[1] is not angle:
        return False
    sine = _maker(division.inputs[0], "Sin")
    return sine is not None and sine.inputs[0] is angle


def _scaled(angle: ir.Value) -> ir.Value | None:
    """``x`` of ``πx``."""
    product = _maker(angle, "Mul")
    for x, factor in [product.inputs, product.inputs[::-1]] if product is not None else []:
        scalar = _scalar(factor)
        if scalar is not None and math.isclose(scalar, math.pi, abs_tol=NEAR):
            return x
    return None
