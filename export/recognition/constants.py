"""The scalar constants of a graph, however they are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.recognition.numpy_ops import FLOATS, NotElementwiseError, NumpyOps

ROUNDOFF = {
    ir.DataType.FLOAT16: 2.0**-11,
    ir.DataType.BFLOAT16: 2.0**-8,
    ir.DataType.FLOAT: 2.0**-24,
    ir.DataType.DOUBLE: 2.0**-53,
}
"""How far, relatively, a number may be from what it stands for."""

RESHAPES = ("Identity", "Expand", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Cast", "CastLike")
"""What leaves the one element of a tensor as it is, but for a cast's rounding."""

FEW_BITS = 0.5
"""A number of fewer of a dtype's bits, such as 0.5 or 3, is meant as it is in every dtype."""

GREATEST = 3.4e38
"""Of float32."""

FITTED = 1e-11
"""How near, relatively, a real parameter is found."""

DEEPEST = 16
"""So many nodes are followed: models make constants of two or three."""


@dataclass(frozen=True, slots=True)
class Constant:
    """One number.

    Attributes:
        number: Its value.
        roundoff: How far, relatively, it may be from the number that it stands for.
        rank: The axes of the tensor that holds it; None if that is not known.
    """

    number: float
    roundoff: float
    rank: int | None


def constant(value: ir.Value | None, depth: int = DEEPEST) -> Constant | None:
    """The one number that ``value`` holds in every run; None if it holds more, or others.

    An initializer that is also an input of the graph may be overridden: it is no constant.
    """
    if value is None or depth == 0 or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return _of_tensor(tensor)
    node = value.producer()
    if node is None or value.index() != 0:
        return None
    if node.op_type == "ConstantOfShape":
        return None
    if node.op_type in RESHAPES and node.domain == "" and node.inputs:
        return _reshaped(node, value, constant(node.inputs[0], depth - 1))
    return _computed(node, depth)


def _of_tensor(tensor: ir.TensorProtocol) -> Constant | None:
    if tensor.size != 1 or tensor.dtype not in {*FLOATS, *_INTEGERS}:
        return None
    number = float(np.asarray(tensor.numpy(), np.float64).reshape(()))
    return Constant(number, roundoff(number, tensor.dtype), len(tensor.shape))


_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL)


def roundoff(number: float, dtype: ir.DataType) -> float:
    """How far, relatively, what ``number`` stands for may be, if ``dtype`` had to hold it."""
    if not math.isfinite(number) or dtype not in ROUNDOFF:
        return 0.0
    bits = abs(number.as_integer_ratio()[0]).bit_length()
    trailing = _trailing_zeros(abs(number.as_integer_ratio()[0]))
    held = -math.log2(ROUNDOFF[dtype])
    return ROUNDOFF[dtype] if bits - trailing > FEW_BITS * held else 0.0


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1 if number else 0


def _reshaped(node: ir.Node, value: ir.Value, inner: Constant | None) -> Constant | None:
    """A constant in another shape or dtype; an Expand to more elements still holds one number."""
    if inner is None:
        return None
    rank = inner.rank if node.op_type in {"Identity", "Cast", "CastLike"} else _rank(value)
    if node.op_type != "Cast":
        return Constant(inner.number, inner.roundoff, rank)
    to = cast_target(node)
    if to not in FLOATS:
        return inner if inner.number.is_integer() and to in _INTEGERS else None
    number = float(np.asarray(inner.number).astype(to.numpy()))
    return Constant(number, max(inner.roundoff, roundoff(number, to)), rank)


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _computed(node: ir.Node, depth: int) -> Constant | None:
    """Arithmetic of constants only, such as √2 or 1/6."""
    compute = getattr(NumpyOps(), node.op_type, None) if node.domain == "" else None
    if compute is None or not node.inputs or node.attributes:
        return None
    known = []
    for value in node.inputs:
        operand = constant(value, depth - 1)
        if operand is None:
            return None
        known.append(operand)
    try:
        with np.errstate(all="ignore"):
            number = float(compute(*(operand.number for operand in known)))
    except (NotElementwiseError, TypeError):
        return None
    ranks = [operand.rank for operand in known]
    rank = None if None in ranks else max(r for r in ranks if r is not None)
    return Constant(number, sum(operand.roundoff for operand in known), rank)


def cast_target(cast: ir.Node) -> ir.DataType | None:
    """The type that a `Cast` gives; None where it is no type, or a function's attribute."""
    attribute = cast.attributes.get("to")
    if attribute is None or attribute.is_ref() or attribute.value not in set(ir.DataType):
        return None
    return ir.DataType(attribute.value)


def is_parameter(value: ir.Value) -> bool:
    """Whether it is a scalar that the model takes, with a default: an alpha of our own graphs."""
    return (
        value.is_graph_input()
        and value.is_initializer()
        and value.shape is not None
        and len(value.shape) == 0
    )


def plain(number: float) -> float:
    """The decimal that was meant, if ``number`` is one in float32; else itself.

    1.702 in float32 is 1.70200002193.
    """
    single = float(np.float32(number)) if abs(number) < GREATEST else math.inf
    if math.isfinite(single) and abs(number - single) <= FITTED * abs(number):
        return float(str(np.float32(number)))
    return number


def snapped(number: float, constants: Iterable[Constant]) -> float:
    """One of the constants, its negative or its reciprocal, if ``number`` was computed from it.

    If not, the digits that computing has left it.
    """
    for found in constants:
        for exact in (found.number, 1 / found.number if found.number else 0.0):
            if abs(abs(number) - abs(exact)) <= FITTED * abs(exact):
                return math.copysign(exact, number)
    return float(f"{number:.12g}")
