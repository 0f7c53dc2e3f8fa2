"""Rules of operators that compute each element from those at the same place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat

from gatewave.service.codecs.datatypes import INT32, INT64
from gatewave.service.repository.rowwise.operands import Operands, Outcome, Rule, apart, from_start
from gatewave.service.repository.rowwise.values import (
    ONE,
    Element,
    NotShown,
    Size,
    Value,
    broadcast,
    has_rows,
    scalar,
    vector,
)

BROADCASTS_SINCE = 7
"""The opset from which operands broadcast as in NumPy; before, an attribute says which axes."""
SIZE_TYPES = {INT32, INT64}
"""Element types that keep sizes as they are."""


def elementwise(node: Operands) -> Sequence[Outcome]:
    """Function of the elements at the same place, after broadcasting."""
    small = _small(node)
    if small is not None:
        return [small]
    shapes = [node.dims(i) for i in range(len(node.values)) if node.has(i)]
    if node.opset < BROADCASTS_SINCE and len(set(shapes)) > 1:
        raise NotShown("broadcasts as before opset 7")
    return [Value(broadcast(shapes, node.fresh))]


def unary(node: Operands) -> Sequence[Outcome]:
    """Function of each element alone; parameters, if any, are the same for all rows."""
    node.fixed(*range(1, len(node.values)))
    return [Value(node.value().dims)] * node.outputs


def identity(node: Operands) -> Sequence[Outcome]:
    """Return the operand, also if it holds the number of rows."""
    return [node.raw(0)]


def cast(node: Operands) -> Sequence[Outcome]:
    """Return the operand with another element type; integers keep known sizes."""
    value, kind = node.raw(0), node.integer("to", 0)
    # A narrower type wraps around, and a floating-point type rounds: neither keeps a size.
    kept = value.elements
    if kept is None or kind not in SIZE_TYPES or any(isinstance(e, float) for e in kept):
        return [Value(node.value().dims)]
    return [value]


def dropout(node: Operands) -> Sequence[Outcome]:
    """Identity, except in training mode."""
    if node.opset < 7 or (node.has(2) and node.integers(2) != (0,)):  # noqa: PLR2004
        raise NotShown("may drop numbers at random")
    return [node.value(), Value(node.value().dims)]


def bias(node: Operands) -> Sequence[Outcome]:
    """An activation of a sum with a vector along the last axis."""
    shapes = [node.dims(i) for i in range(len(node.values)) if node.has(i)]
    return [Value(broadcast(shapes, node.fresh))]


def quantized(node: Operands) -> Sequence[Outcome]:
    """To or from whole numbers, with constant scales: of the tensor, or along an axis."""
    node.fixed(1, 2)
    value, scale = node.value(), node.value(1)
    if scale.dims is None or len(scale.dims) > 1:
        raise NotShown("has a scale that may belong to the rows")
    if value.is_batched and scale.dims not in {(), (ONE,)}:
        apart(value, from_start(node.integer("axis", 1), len(node.dims())))
    return [Value(value.dims)]


def quantized_pair(node: Operands) -> Sequence[Outcome]:
    """``a ∘ b`` of two quantized tensors, each with a scale and a zero point of its own."""
    node.plain(1, 2, 4, 5, 6, 7)
    return [Value(broadcast([node.dims(0), node.dims(3)], node.fresh))]


def _small(node: Operands) -> Value | None:
    """Return the result of arithmetic on sizes and constants, if it is that."""
    operands = [node.raw(i) for i in range(len(node.values)) if node.has(i)]
    parts = [value.small for value in operands]
    if not any(value.elements is not None for value in operands) or None in parts:
        return None
    known = [part for part in parts if part is not None]
    count = max(map(len, known))
    if any(len(part) not in {1, count} for part in known):
        return None
    rows = zip(*(repeat(part[0], count) if len(part) == 1 else part for part in known), strict=True)
    compute = ARITHMETIC.get(node.operator)
    elements = [_checked(compute(*row) if compute else None, row) for row in rows]
    if all(value.dims == () for value in operands):
        return scalar(elements[0])
    return vector(elements)


def _checked(result: Element, operands: Sequence[Element]) -> Element:
    """Check that unknown elements do not depend on the number of rows."""
    if result is None and any(map(has_rows, operands)):
        raise NotShown("computes with the number of rows")
    return result


def _multiplied(a: Element, b: Element) -> Element:
    """Return a product of sizes, which may have symbols."""
    return a.times(b) if isinstance(a, Size) and isinstance(b, Size) else None


def _divided(a: Element, b: Element) -> Element:
    """Return an exact quotient of sizes; None if it has a remainder or is unknown."""
    return a.over(b) if isinstance(a, Size) and isinstance(b, Size) else None


def _added(a: Element, b: Element) -> Element:
    """Return a sum of known numbers."""
    return _summed(a, b, 1)


def _subtracted(a: Element, b: Element) -> Element:
    """Return a difference of known numbers."""
    return _summed(a, b, -1)


def _summed(a: Element, b: Element, sign: int) -> Element:
    """Return ``a`` + ``sign`` · ``b``; None if a symbol is involved, unless ``b`` is 0."""
    if not isinstance(a, Size) or not isinstance(b, Size):
        return None
    if b == Size(0):
        return a
    if a.symbols or b.symbols:
        return None
    return Size(a.factor + sign * b.factor)


def _equal(a: Element, b: Element) -> Element:
    """Return 1 or 0 if the comparison has the same result for every batch, otherwise None."""
    if not isinstance(a, Size) or not isinstance(b, Size):
        return None
    if a == b:
        return Size(1)
    if not a.symbols and not b.symbols:
        return Size(0)
    # A product of sizes is not negative: `Equal(shape, -1)` is how exporters mark open axes.
    negative = a.factor < 0 or b.factor < 0
    return Size(0) if negative and (a.factor > 0 or b.factor > 0) else None


def _remainder(a: Element, b: Element) -> Element:
    """Return a remainder of non-negative numbers; the sign rules of Mod are not needed then."""
    if not isinstance(a, Size) or not isinstance(b, Size) or a.symbols or b.symbols:
        return None
    return Size(a.factor % b.factor) if a.factor >= 0 and b.factor > 0 else None


def _chosen(condition: Element, yes: Element, no: Element) -> Element:
    """Return the element that Where chooses, if the condition is known or both are equal."""
    if isinstance(condition, Size) and condition.number is not None:
        return yes if condition.number else no
    return yes if yes == no else None


ARITHMETIC: Mapping[str, Callable[..., Element]] = {
    "Mul": _multiplied,
    "Div": _divided,
    "Add": _added,
    "Sub": _subtracted,
    "Mod": _remainder,
    "Equal": _equal,
    "Where": _chosen,
}
"""Operators by which exporters compute shapes from shapes."""

ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "PRelu", "Clip"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Where"),
    *("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)
UNARY = (
    *("Abs", "Neg", "Sign", "Reciprocal", "Sqrt", "Exp", "Log", "Erf", "Not", "BitwiseNot"),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
    *("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Celu", "Selu", "Gelu", "Swish", "Mish"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Shrink"),
    *("Ceil", "Floor", "Round", "IsInf", "IsNaN"),
)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(UNARY, unary),
    "Identity": identity,
    "Cast": cast,
    "CastLike": unary,
    "Dropout": dropout,
    "QuantizeLinear": quantized,
    "DequantizeLinear": quantized,
}
MICROSOFT: Mapping[str, Rule] = {
    **dict.fromkeys(("Gelu", "QuickGelu"), unary),
    **dict.fromkeys(("BiasGelu", "FastGelu"), bias),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantized),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), quantized_pair),
}
