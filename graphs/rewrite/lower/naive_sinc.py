"""The cardinal sine as it is usually decomposed: ``Where(t = 0, 1, sin(t) / t)``, with ``t = πx``.

Where t is so small that the quotient is 0/0, or a runtime flushes it to 0 on one side only, this
gives infinity or NaN instead of 1: IREE 3.13, OpenVINO 2026.4, tract 0.23 and LiteRT 2.6 are wrong
near 0, as their target files say.

Recognition has the kind ``sinc``, but only for t = πx. The failure does not depend on the factor,
and sin(x)/x is as common; so the form is matched here. Three producers are looked at, where
recognition evaluates the graph numerically.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import onnx_ir as ir

from gatewave.graphs.ops import formulas


def operands(
    node: ir.Node, _dtype: ir.DataType | None, _arguments: Collection[ir.Value]
) -> Sequence[ir.Value] | None:
    """Return ``t`` and the 1, which may be a tensor, if ``node`` has this form."""
    if node.op_type != "Where" or node.domain:
        return None
    condition, one, quotient = node.inputs
    negated = _maker(condition, "Not")
    if negated is not None:
        condition, one, quotient = negated.inputs[0], quotient, one
    angle = _angle(quotient)
    if angle is None or one is None or _constant(one) != 1.0 or not _tests(condition, angle):
        return None
    return angle, one


def robust(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The form of ``sin(t) / t`` that is right near 0; see `formulas.cardinal_sine`."""
    return (formulas.cardinal_sine(op, *inputs),)


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    made = value.producer() if value is not None else None
    return made if made is not None and made.op_type == op_type and not made.domain else None


def _constant(value: ir.Value | None) -> float | None:
    """Return the number that all elements of a constant are; None if they differ."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or not tensor.size:
        return None
    numbers = tensor.numpy()
    return float(numbers.flat[0]) if (numbers == numbers.flat[0]).all() else None


def _angle(quotient: ir.Value | None) -> ir.Value | None:
    """``t`` of ``sin(t) / t``."""
    division = _maker(quotient, "Div")
    sine = _maker(division.inputs[0], "Sin") if division is not None else None
    if division is None or sine is None:
        return None
    (angle,) = sine.inputs
    return angle if division.inputs[1] is angle else None


def _tests(condition: ir.Value | None, angle: ir.Value) -> bool:
    """Return true for the condition ``t = 0``, or ``x = 0`` where ``t`` is a multiple of ``x``."""
    equal = _maker(condition, "Equal")
    if equal is None:
        return False
    alike = {angle, *_multiplied(angle)}
    return any(
        _constant(zero) == 0.0 and _uncast(tested) in alike
        for tested, zero in (equal.inputs, equal.inputs[::-1])
    )


def _multiplied(angle: ir.Value) -> Iterator[ir.Value]:
    product = _maker(angle, "Mul")
    for x, factor in (product.inputs, product.inputs[::-1]) if product is not None else ():
        if x is not None and _constant(factor):
            yield x


def _uncast(value: ir.Value | None) -> ir.Value | None:
    """Return the value before a cast for comparison: Torch compares 16-bit floats in float32."""
    cast = _maker(value, "Cast")
    return value if cast is None else cast.inputs[0]
