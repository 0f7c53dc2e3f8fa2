"""Integers that a graph computes from shapes, such as starts of slices and sizes of parts.

Exporters write half of an axis as ``(size + 1) // 2``, by Shape, Gather, Add and Div.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.thresholds import MAX_INTEGER_DEPTH, MAX_SHAPE_ELEMENTS

IntegerMemo = dict[tuple[ir.Value, int], Any]
"""Results by value and number of nodes looked at before it."""

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


class NotKnownError(Exception):
    """The integers depend on the model's inputs."""


def integers(
    value: ir.Value | None,
    shape_of: Callable[[ir.Value], ir.Shape | None],
    memo: IntegerMemo,
    depth: int = MAX_INTEGER_DEPTH,
) -> Int64Array | None:
    """The integers that ``value`` holds in every run; None if they are not known.

    Args:
        value: Value of interest.
        shape_of: Tells the shape of a value.
        memo: Results; filled by this function.
        depth: Limit on followed nodes.
    """
    if value is None or depth == 0 or value.is_graph_input():
        return None
    if (value, depth) not in memo:
        operands = _NodeOperands(value.producer(), shape_of, memo, depth - 1)
        memo[value, depth] = _found(value, operands)
    found: Int64Array | None = memo[value, depth]
    return found


class _NodeOperands:
    """Operands of a node, by index.

    Raises:
        NotKnownError: It is not known.
    """

    def __init__(
        self,
        node: ir.Node | None,
        shape_of: Callable[[ir.Value], ir.Shape | None],
        memo: IntegerMemo,
        depth: int,
    ) -> None:
        self.node, self._shape_of, self._memo, self._depth = node, shape_of, memo, depth

    def __getitem__(self, index: int) -> Int64Array:
        found = integers(self._value(index), self._shape_of, self._memo, self._depth)
        if found is None:
            raise NotKnownError
        return found

    def shape(self, index: int) -> list[int | None]:
        value = self._value(index)
        shape = None if value is None else self._shape_of(value)
        if shape is None:
            raise NotKnownError
        return [size if isinstance(size, int) else None for size in shape]

    def _value(self, index: int) -> ir.Value | None:
        inputs = () if self.node is None else self.node.inputs
        return inputs[index] if index < len(inputs) else None


def _found(value: ir.Value, operands: _NodeOperands) -> Int64Array | None:
    # The size is checked first: the values of external data are read only when needed.
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        whole = tensor.size <= MAX_SHAPE_ELEMENTS and tensor.dtype.is_integer()
        return tensor.numpy().astype(np.int64) if whole else None
    node = operands.node
    if node is None or node.domain != "" or value.index() != 0:
        return None
    compute = _COMPUTED.get(node.op_type)
    try:
        return None if compute is None else compute(node, operands)
    except (NotKnownError, ValueError, IndexError):
        return None


def _number(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    if attribute.is_ref() or attribute.type != ir.AttributeType.INT:
        raise NotKnownError
    return attribute.as_int()


def _gather(node: ir.Node, operands: _NodeOperands) -> Int64Array:
    """One size may be known where others of the shape are not."""
    if _number(node, "axis", 0) != 0:
        raise NotKnownError
    source = node.inputs[0]
    shape = None if source is None else source.producer()
    if shape is None or shape.op_type != "Shape" or shape.attributes or shape.domain != "":
        return np.asarray(operands[0][operands[1]])
    sizes = _NodeOperands(shape, operands._shape_of, operands._memo, operands._depth).shape(0)  # noqa: SLF001
    indices = operands[1]
    chosen = [sizes[int(index)] for index in indices.reshape(-1)]
    return _all(chosen).reshape(indices.shape)


def _shape(node: ir.Node, operands: _NodeOperands) -> Int64Array:
    if node.attributes:  # start and end, from opset 15
        raise NotKnownError
    return _all(operands.shape(0))


def _all(sizes: list[int | None]) -> Int64Array:
    if any(size is None for size in sizes):
        raise NotKnownError
    return np.array(sizes, np.int64)


def _quotient(_: ir.Node, operands: _NodeOperands) -> Int64Array:
    """Divide numbers that are not negative: ONNX then rounds down, as NumPy does."""
    one, other = operands[0], operands[1]
    if (one < 0).any() or (other <= 0).any():
        raise NotKnownError
    return np.asarray(one // other)


_COMPUTED: dict[str, Callable[[ir.Node, _NodeOperands], Int64Array]] = {
    "Shape": _shape,
    "Gather": _gather,
    "Add": lambda _, operands: operands[0] + operands[1],
    "Sub": lambda _, operands: operands[0] - operands[1],
    "Mul": lambda _, operands: operands[0] * operands[1],
    "Div": _quotient,
    "Identity": lambda _, operands: operands[0],
    "Unsqueeze": lambda _, operands: operands[0].reshape(-1),
    "Squeeze": lambda _, operands: operands[0].squeeze(),
}
"""Computations by operator of ONNX's domain. A number with an axis counts as a scalar."""
