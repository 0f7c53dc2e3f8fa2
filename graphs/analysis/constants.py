"""The scalar constants of a graph, however they are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.numpy_ops import FLOATS, NotElementwiseError, NumpyOps
from gatewave.graphs.analysis.thresholds import (
    FEW_BITS,
    FITTED,
    MAX_CONSTANT_DEPTH,
    MAX_CONSTANT_ELEMENTS,
    MAX_EXACT_INTEGER,
    MAX_FLOAT32,
)

ROUNDOFF = {
    ir.DataType.FLOAT16: 2.0**-11,
    ir.DataType.BFLOAT16: 2.0**-8,
    ir.DataType.FLOAT: 2.0**-24,
    ir.DataType.DOUBLE: 2.0**-53,
}
"""Relative rounding error of a number in each element type."""

RESHAPES = ("Identity", "Expand", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Cast", "CastLike")
"""Operators that keep the only element of a tensor, except for a cast's rounding."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """One number.

    Attributes:
        number: Its value.
        roundoff: Relative rounding error of the number.
        shape: Shape of the tensor that holds it in all its elements; None if not known.
        dtype: Element type of that tensor.
        like: Value from which the graph computes the tensor's shape, if any.
    """

    number: float
    roundoff: float
    shape: Shape | None = ()
    dtype: ir.DataType = ir.DataType.FLOAT
    like: ir.Value | None = None


ConstantMemo = dict[tuple[ir.Value, int], Constant | None]
"""Results by value and number of nodes looked at before it."""


def constant(
    value: ir.Value | None, memo: ConstantMemo | None = None, depth: int = MAX_CONSTANT_DEPTH
) -> Constant | None:
    """The one number that ``value`` holds in every run; None if it holds several or changes.

    An initializer that is also an input of the graph may be overridden: it is no constant.
    """
    if value is None or depth == 0 or value.is_graph_input():
        return None
    memo = {} if memo is None else memo
    if (value, depth) not in memo:
        memo[value, depth] = _found(value, memo, depth)
    return memo[value, depth]


def _found(value: ir.Value, memo: ConstantMemo, depth: int) -> Constant | None:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return _of_tensor(tensor)
    node = value.producer()
    if node is None or value.index() != 0 or node.domain != "":
        return None
    if node.op_type == "ConstantOfShape":
        return _filled(node, value)
    if node.op_type in RESHAPES and node.inputs:
        return _reshaped(node, value, constant(node.inputs[0], memo, depth - 1))
    return _of_operands(node, memo, depth)


def _of_operands(node: ir.Node, memo: ConstantMemo, depth: int) -> Constant | None:
    if node.attributes or not hasattr(NumpyOps, node.op_type):
        return None
    operands = []
    for given in node.inputs:
        operand = constant(given, memo, depth - 1)
        if operand is None:  # only these are evaluated: nearly all nodes have no constants
            return None
        operands.append(operand)
    return _computed(node, operands) if operands else None


def _of_tensor(tensor: ir.TensorProtocol) -> Constant | None:
    if not 0 < tensor.size <= MAX_CONSTANT_ELEMENTS or tensor.dtype not in {*FLOATS, *_INTEGERS}:
        return None
    elements = tensor.numpy().reshape(-1)
    # Nearly all weights differ in these two elements, so they are not read as a whole.
    if elements[0] != elements[-1] or not (elements == elements[0]).all():
        return None
    number = float(elements[0])
    return Constant(
        number, roundoff(number, tensor.dtype), tuple(tensor.shape.numpy()), tensor.dtype
    )


def _filled(node: ir.Node, value: ir.Value) -> Constant | None:
    """The number of a `ConstantOfShape`: 0 by default."""
    attribute = node.attributes.get("value")
    if attribute is None:
        filled: Constant | None = Constant(0.0, 0.0)
    elif attribute.is_ref() or attribute.type != ir.AttributeType.TENSOR:
        return None
    else:
        filled = _of_tensor(attribute.as_tensor())
    if filled is None:
        return None
    return replace(filled, shape=_sizes(node, 0) or _stated(value), like=_shaped_like(node, 0))


_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL)
_AS_REALS = {"Add", "Sub", "Mul", "Neg", "Abs", "Max", "Min", "Sum", "Where"}
_TO_BOOL = {
    "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And", "Or", "Xor", "Not",
}  # fmt: skip
"""Operators with equal results on small integers and on reals; `Div` is not one."""


def roundoff(number: float, dtype: ir.DataType) -> float:
    """Return the relative error of ``number`` that rounding to ``dtype`` may have caused."""
    if not math.isfinite(number) or dtype not in ROUNDOFF:
        return 0.0
    # 0.5 needs one bit and is exact in every dtype; 1.702 needs all 24 of float32, so the graph's
    # author may have meant any number that rounds to it.
    bits = abs(number.as_integer_ratio()[0]).bit_length()
    trailing = _trailing_zeros(abs(number.as_integer_ratio()[0]))
    held = -math.log2(ROUNDOFF[dtype])
    return ROUNDOFF[dtype] if bits - trailing > FEW_BITS * held else 0.0


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1 if number else 0


def _reshaped(node: ir.Node, value: ir.Value, inner: Constant | None) -> Constant | None:
    """A constant in another shape or dtype; an Expand to more elements still holds one number."""
    if inner is None or node.op_type == "Identity":
        return inner
    if node.op_type in {"Cast", "CastLike"}:
        to = cast_target(node) if node.op_type == "Cast" else _like(node) or inner.dtype
        return _cast(inner, to)
    shape, like = _stated(value), None
    if node.op_type == "Expand" and shape is None:
        shape = _broadcast([inner.shape, _sizes(node, 1)])
        like = _shaped_like(node, 1) if inner.shape == () else None
    if shape is None and inner.shape is not None and math.prod(inner.shape) == 1:
        shape = _of_one_element(node, len(inner.shape))
    return replace(inner, shape=shape, like=like)


def _of_one_element(node: ir.Node, rank: int) -> Shape | None:
    """Return the shape that `Reshape`, `Unsqueeze`, `Squeeze` or `Flatten` gives a number."""
    if node.op_type == "Flatten":
        return (1, 1)
    if node.op_type == "Reshape":
        given = node.attributes.get("shape")
        sizes = _sizes(node, 1) if given is None else tuple(given.as_ints())
        return None if sizes is None else (1,) * len(sizes)
    if node.op_type not in {"Squeeze", "Unsqueeze"}:
        return None
    attribute = node.attributes.get("axes")
    axes = _sizes(node, 1) if attribute is None else tuple(attribute.as_ints())
    if axes is None:  # Squeeze takes all axes, where it is given none
        all_axes = node.op_type == "Squeeze" and len(node.inputs) < 2  # noqa: PLR2004
        return () if all_axes else None
    return (1,) * (rank + len(axes) if node.op_type == "Unsqueeze" else rank - len(axes))


def _like(node: ir.Node) -> ir.DataType | None:
    """The type of a `CastLike`, where the model states it."""
    model = node.inputs[1] if len(node.inputs) > 1 else None
    return node.outputs[0].dtype or (None if model is None else model.dtype)


def _cast(inner: Constant, to: ir.DataType | None) -> Constant | None:
    if to == inner.dtype:
        return inner
    if to == ir.DataType.BOOL:
        return replace(inner, number=float(inner.number != 0), roundoff=0.0, dtype=to)
    if to in _INTEGERS:
        return replace(inner, dtype=to) if _is_small_integer(inner.number) else None
    if to not in FLOATS:
        return None
    # A cast rounds to the new dtype, and the digits that the old one lost stay lost.
    number = float(np.asarray(inner.number).astype(to.numpy()))
    return Constant(number, max(inner.roundoff, roundoff(number, to)), inner.shape, to)


def _is_small_integer(number: float) -> bool:
    return number.is_integer() and abs(number) <= MAX_EXACT_INTEGER


def _stated(value: ir.Value) -> Shape | None:
    """The shape that the model states, if all of it is known."""
    shape = value.shape
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    return tuple(size for size in shape if isinstance(size, int))


def _sizes(node: ir.Node, index: int) -> Shape | None:
    """The shape that a node is given."""
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tuple(int(size) for size in tensor.numpy().reshape(-1))


def _shaped_like(node: ir.Node, index: int) -> ir.Value | None:
    """The value behind a `Shape` that a node takes, cast or not."""
    value = node.inputs[index] if len(node.inputs) > index else None
    for _ in range(MAX_CONSTANT_DEPTH):
        maker = None if value is None else value.producer()
        if maker is None or maker.domain or not maker.inputs:
            return None
        value = maker.inputs[0]
        if maker.op_type == "Shape":  # its attributes, from opset 15, select some of the axes
            return None if maker.attributes else value
        if maker.op_type not in {"Cast", "Identity"}:
            return None
    return None


def _broadcast(shapes: Iterable[Shape | None]) -> Shape | None:
    known = list(shapes)
    try:
        return np.broadcast_shapes(*known)  # type: ignore[arg-type] # or else a TypeError
    except (TypeError, ValueError):
        return None


def _computed(node: ir.Node, operands: Sequence[Constant]) -> Constant | None:
    """Arithmetic of constants only, such as √2 or 1/6."""
    compute = getattr(NumpyOps(), node.op_type)
    dtype = operands[1 if node.op_type == "Where" and len(operands) > 1 else 0].dtype
    # `Div` of integers truncates: 3 / 2 is 1, and not the 1.5 that NumPy's division gives.
    if dtype in _INTEGERS and node.op_type not in _AS_REALS | _TO_BOOL:
        return None
    try:
        with np.errstate(all="ignore"):
            number = float(compute(*(operand.number for operand in operands)))
    except (NotElementwiseError, TypeError, ArithmeticError):
        return None
    # Beyond that, an int32 may overflow in the graph, where float64 does not.
    if dtype in _INTEGERS and not _is_small_integer(number):
        return None
    return Constant(
        number,
        sum(operand.roundoff for operand in operands),
        _broadcast(operand.shape for operand in operands),
        ir.DataType.BOOL if node.op_type in _TO_BOOL else dtype,
    )


def times(one: Constant, other: Constant, power: int) -> Constant:
    """``one`` multiplied with ``other``, or divided by it."""
    if power < 0 and other.number == 0:
        return Constant(math.nan, 0.0)
    number = one.number * other.number if power > 0 else one.number / other.number
    shape = _broadcast((one.shape, other.shape))
    return Constant(number, one.roundoff + other.roundoff, shape, one.dtype)


def cast_target(cast: ir.Node) -> ir.DataType | None:
    """The type that a `Cast` gives; None if it is invalid, or a function's attribute."""
    attribute = cast.attributes.get("to")
    if attribute is None or attribute.is_ref() or attribute.value not in set(ir.DataType):
        return None
    return ir.DataType(attribute.value)


def is_parameter(value: ir.Value) -> bool:
    """Return true for a scalar input with a default, as the alpha of our own graphs."""
    return (
        value.is_graph_input()
        and value.is_initializer()
        and value.shape is not None
        and len(value.shape) == 0
    )


def plain(number: float) -> float:
    """Return the decimal that float32 rounds to ``number``, if there is one; or ``number``.

    1.702 in float32 is 1.70200002193.
    """
    # NumPy warns when a cast overflows.
    single = float(np.float32(number)) if abs(number) < MAX_FLOAT32 else math.inf
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
