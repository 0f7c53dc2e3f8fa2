"""Activations with one parameter per channel: PReLU, Snake, and others in that form.

The expression is evaluated for a few channels, each time with that channel's numbers in place of
the weights. If it is an activation in all of them, it has one parameter per channel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.constants import RESHAPES, Constant, roundoff
from gatewave.graphs.analysis.numpy_ops import FLOATS, NotElementwiseError, NumpyOps
from gatewave.graphs.analysis.thresholds import (
    CHANNEL_FIT,
    MAX_CHANNEL_NODES,
    MAX_ROW_DEPTH,
    MAX_ROW_ELEMENTS,
)
from gatewave.graphs.recognition.expressions import ExpressionReader, Factor
from gatewave.graphs.recognition.matching import KindMatch, matches

CHANNEL_SHARES = (0.0, 0.37, 0.71, 1.0)
"""Relative positions of the channels that are evaluated."""

BENDS = {
    "Sin", "Cos", "Relu", "Max", "Min", "Where", "Abs", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "Clip", "Sign", "LeakyRelu", "PRelu",
}  # fmt: skip
"""Nonlinear operators; a PReLU or a Snake contains at least one."""

ROOTS = {"Add", "Sub", "Sum", "Where", "Max", "Min", "PRelu"}
"""Operators in which PReLU and Snake may end."""

FAMILIES: Mapping[frozenset[str], str] = {
    frozenset({"leaky-relu"}): "prelu",
    frozenset({"leaky-relu", "relu"}): "prelu",
    frozenset({"snake"}): "snake",
    frozenset({"snake-beta"}): "snake-beta",
    frozenset({"snake", "snake-beta"}): "snake-beta",
}
"""Per-channel activations, by the kinds of the single channels."""

Float64Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class ParameterRange:
    """The numbers of a real parameter that differs between channels."""

    least: float
    greatest: float
    count: int


@dataclass(frozen=True, slots=True)
class WeightRow:
    """Weights that hold a number for each channel.

    Attributes:
        numbers: All numbers, in order.
        shape: Shape of the tensor.
    """

    numbers: Float64Array
    shape: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The sizes that are not 1; rows of equal layout have equal axes."""
        return tuple(size for size in self.shape if size != 1)


class WeightRows:
    """Rows of weights in one graph, found on demand."""

    def __init__(self) -> None:
        self._found: dict[ir.Value, WeightRow | None] = {}

    def of(self, value: ir.Value | None, depth: int = MAX_ROW_DEPTH) -> WeightRow | None:
        if value is None or depth == 0 or value.is_graph_input():
            return None
        if value not in self._found:
            self._found[value] = self._row(value, depth)
        return self._found[value]

    def _row(self, value: ir.Value, depth: int) -> WeightRow | None:
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            if tensor.dtype not in FLOATS or not 0 < tensor.size <= MAX_ROW_ELEMENTS:
                return None
            return WeightRow(tensor.numpy().astype(float).reshape(-1), tuple(tensor.shape.numpy()))
        node = value.producer()
        if node is None or node.domain != "" or value.index() != 0:
            return None
        # An Expand repeats a row, so its numbers are no longer one per channel.
        if node.op_type in RESHAPES and node.op_type != "Expand" and node.inputs:
            return self._reshaped(node, value, depth)
        return self._computed(node, depth)

    def _reshaped(self, node: ir.Node, value: ir.Value, depth: int) -> WeightRow | None:
        inner = self.of(node.inputs[0], depth - 1)
        if inner is None or value.shape is None or node.op_type in {"Cast", "Identity"}:
            return inner
        shape = tuple(size for size in value.shape if isinstance(size, int))
        return WeightRow(inner.numbers, shape) if len(shape) == len(value.shape) else inner

    def _computed(self, node: ir.Node, depth: int) -> WeightRow | None:
        """Evaluate arithmetic of weights alone, such as ``1 / (exp(α) + 1e-9)``."""
        if not hasattr(NumpyOps, node.op_type) or node.attributes:
            return None
        operands = []
        for given in node.inputs:
            operand = self.of(given, depth - 1)
            if operand is None:
                return None
            operands.append(operand)
        if not operands or len({one.axes for one in operands if one.axes}) > 1:
            return None
        try:
            with np.errstate(all="ignore"):
                numbers = getattr(NumpyOps(), node.op_type)(*(one.numbers for one in operands))
        except (NotElementwiseError, TypeError, ValueError):
            return None
        widest = max(operands, key=lambda one: (one.numbers.size, len(one.shape)))
        return WeightRow(np.asarray(numbers, float).reshape(-1), widest.shape)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelReader(ExpressionReader):
    """Reader that sees a row of weights as the number of one channel."""

    share: float = 0.0
    rows: WeightRows = field(default_factory=WeightRows)

    def constant(self, value: ir.Value) -> Constant | None:
        found = ExpressionReader.constant(self, value)
        row = self.rows.of(value) if found is None or found.shape not in {(), None} else None
        if row is None or row.numbers.size == 1:
            return found
        number = float(row.numbers[round(self.share * (row.numbers.size - 1))])
        return Constant(number, roundoff(number, value.dtype or ir.DataType.FLOAT))


def readers(reader: ExpressionReader) -> list[ChannelReader]:
    """Return one reader of the same graph for each channel that is evaluated."""
    if not reader.channels:
        rows = WeightRows()
        reader.channels.extend(
            ChannelReader(reader.graph, reader.functions, reader.order, share=share, rows=rows)
            for share in CHANNEL_SHARES
        )
    return reader.channels


@dataclass(frozen=True, eq=False)
class Channelled:
    """An activation with a parameter for each channel.

    Attributes:
        kinds: The kinds of the channels that were evaluated.
        first: The expression, and its match in the first of them.
        ranges: The numbers of each parameter.
        rows: The weights inside.
    """

    kinds: frozenset[str]
    first: KindMatch
    ranges: Mapping[str, ParameterRange]
    rows: tuple[WeightRow, ...]


def channelled(
    root: ir.Node, reader: ExpressionReader, bends: Collection[str]
) -> Iterator[Channelled]:
    """Yield the per-channel activation that ends in ``root``, if ``bends`` and weights occur."""
    given = readers(reader)
    if not _is_promising(root, given[0], bends):
        return
    whole = (Factor(root.outputs[0]),)
    # The first channel is matched alone: nearly all expressions fail there.
    for first in matches(given[0], given[0].expressions(whole, None)):
        nodes = first.expression.nodes
        rows = {v: row for node in nodes for v in node.inputs if (row := _row(v, given[0]))}
        # Rows of different layouts belong to different axes, so there is no one channel.
        if not rows or len({row.axes for row in rows.values()}) > 1:
            continue
        found = [first, *filter(None, (_same(first, reader) for reader in given[1:]))]
        if len(found) == len(given):
            kinds = frozenset(match.kind for match in found)
            ranges = _ranges(found, [*rows.values()])
            yield Channelled(kinds, first, ranges, tuple(rows.values()))


def _row(value: ir.Value | None, reader: ChannelReader) -> WeightRow | None:
    row = reader.rows.of(value)
    return row if row is not None and row.numbers.size > 1 else None


def _is_promising(root: ir.Node, reader: ChannelReader, bends: Collection[str]) -> bool:
    """Return true if a row multiplies an inner value and a nonlinear operator occurs."""
    # A cheap look at the nodes: reading the expressions of all channels takes far longer.
    nonlinear = scaled = False
    pending, seen = [root], set[ir.Node]()
    while pending and len(seen) < MAX_CHANNEL_NODES and not (nonlinear and scaled):
        node = pending.pop(0)
        if node in seen:
            continue
        seen.add(node)
        nonlinear |= node.op_type in bends or bool(node.domain)
        if node.op_type in {"Mul", "Div", "PRelu"}:
            scaled |= any(_row(value, reader) is not None for value in node.inputs)
        makers = (None if v is None else reader.elementwise(v) for v in node.inputs)
        pending += [maker for maker in makers if maker is not None]
    return nonlinear and scaled


def _same(first: KindMatch, reader: ChannelReader) -> KindMatch | None:
    """Return the match of the expression of the same source in another channel."""
    source, factors = first.expression.source, first.expression.factors
    ours = (one for one in reader.expressions(factors, None) if one.source is source)
    return next(matches(reader, ours), None)


def _ranges(found: Sequence[KindMatch], rows: Sequence[WeightRow]) -> dict[str, ParameterRange]:
    """Return per parameter all numbers of its row, or those of the evaluated channels."""
    names = {name for match in found for name in match.reals}
    return {name: _range([match.reals.get(name) for match in found], rows) for name in names}


def _range(seen: Sequence[float | None], rows: Sequence[WeightRow]) -> ParameterRange:
    whole = [number for number in seen if number is not None]
    count = max(row.numbers.size for row in rows)
    with np.errstate(all="ignore"):
        for row in rows:
            # Exporters store α, -α, 1/α or -1/α.
            for numbers in (row.numbers, -row.numbers, 1 / row.numbers, -1 / row.numbers):
                places = [round(share * (numbers.size - 1)) for share in CHANNEL_SHARES]
                pairs = zip(places, seen, strict=True)
                if all(n is None or np.isclose(numbers[p], n, rtol=CHANNEL_FIT) for p, n in pairs):
                    return ParameterRange(float(numbers.min()), float(numbers.max()), count)
    return ParameterRange(min(whole), max(whole), count)
