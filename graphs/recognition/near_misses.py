"""Near misses: nodes that resemble an activation, or compute one that cannot be replaced.

They are listed with the reason: a constant that is slightly off, one parameter per channel,
quantisation in between, an activation inside a fused or recurrent operator, and an operator such as
`Erf` that is not part of any known activation.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from gatewave.graphs.analysis.node_functions import NodeFunction
from gatewave.graphs.analysis.numpy_ops import FLOATS
from gatewave.graphs.analysis.scopes import Scope
from gatewave.graphs.analysis.thresholds import (
    MAX_MISSED_EXPRESSIONS,
    MAX_MISSED_NODES,
    MAX_MISSED_TRIALS,
    MAX_ROW_DEPTH,
    MEANT_CONSTANT,
)
from gatewave.graphs.ops.formulas import SELU_ALPHA, SELU_GAMMA
from gatewave.graphs.recognition.candidates import NEVER_LAST
from gatewave.graphs.recognition.channels import (
    ChannelReader,
    ParameterRange,
    WeightRow,
    WeightRows,
    channelled,
)
from gatewave.graphs.recognition.embedded import embedded
from gatewave.graphs.recognition.expressions import Expression, ExpressionReader, Factor
from gatewave.graphs.recognition.matching import TELLING, match, matches
from gatewave.graphs.recognition.sites import NearMiss, Site, Survey

MEANT = (
    math.sqrt(2), math.sqrt(0.5), math.sqrt(2 / math.pi), math.sqrt(8 / math.pi), 0.044715,
    0.044715 * math.sqrt(2 / math.pi), 0.5, 1.0, 2.0, 3.0, 6.0, 1 / 3, 1 / 6, 4.0, math.pi,
    1 / math.pi, SELU_ALPHA, SELU_GAMMA, SELU_ALPHA * SELU_GAMMA, 0.08, 0.035, 0.313261687,
)  # fmt: skip
"""The constants in the formulas of the catalogue."""

QUANTISING = ("QuantizeLinear", "DequantizeLinear")

ALONE = {
    "Sigmoid", "Tanh", "Erf", "Erfc", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu",
    "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Swish", "SwiGLU",
    "ThresholdedRelu", "Shrink", "FastGelu", "BiasGelu", "QuickGelu",
}  # fmt: skip
"""Operators that are listed wherever they are."""


def near_misses(survey: Survey) -> list[NearMiss]:
    """Return the near misses of ``survey`` and further ones, in the order of the graphs."""
    found = [*survey.near_misses]
    seen = {node for site in survey.sites for node in site.nodes}
    seen |= {node for miss in found for node in miss.site.nodes}
    for scope, reader in survey.readers:
        found += _Search(scope, reader, survey, seen).found()
    return found


class QuantisedReader(ExpressionReader):
    """Reader that ignores quantisation."""

    __slots__ = ()

    def _found_meaning(self, node: ir.Node) -> NodeFunction | None:
        if node.op_type in QUANTISING:
            return NodeFunction(lambda _op, _known, x, *_: x)
        return ExpressionReader._found_meaning(self, node)  # noqa: SLF001

    def _given(self, node: ir.Node) -> tuple[tuple[ir.Value, ...], ir.Value | None]:
        """Return the operands without scales and zero points."""
        given, bias = ExpressionReader._given(self, node)  # noqa: SLF001
        return (given[:1] if node.op_type in QUANTISING else given), bias

    def _operand(self, value: ir.Value | None, known: Mapping[ir.Value, Any]) -> Any:
        """Return None for a zero point, which is not an operand."""
        number = value is None or value in known or self.constant(value) is not None
        return ExpressionReader._operand(self, value, known) if number else None  # noqa: SLF001


class _Zeros(WeightRows):
    """Rows of weights, replaced by 0."""

    def of(self, value: ir.Value | None, depth: int = MAX_ROW_DEPTH) -> WeightRow | None:
        found = super().of(value, depth)
        return None if found is None else WeightRow(0.0 * found.numbers, found.shape)


@dataclass
class _Search:
    """Search of one graph for near misses that ``survey`` has not found.

    Attributes:
        seen: The nodes that are listed already.
    """

    scope: Scope
    reader: ExpressionReader
    survey: Survey
    seen: set[ir.Node]

    @functools.cached_property
    def _without_rows(self) -> ChannelReader:
        own = self.reader
        return ChannelReader(own.graph, own.functions, own.order, rows=_Zeros())

    @functools.cached_property
    def _without_quantising(self) -> QuantisedReader | None:
        own = self.reader
        if not any(node.op_type in QUANTISING for node in own.order):
            return None
        return QuantisedReader(own.graph, own.functions, own.order)

    def found(self) -> list[NearMiss]:
        listed: dict[ir.Node, list[NearMiss]] = {}
        # From the last node to the first: the largest near miss takes the nodes inside it.
        for node in reversed(self.reader.order):
            inside = [self._miss(node, kind, reason) for kind, reason in embedded(node)]
            if not inside and node not in self.seen and len(node.outputs) == 1:
                inside = [*self._alike(node)]
            listed[node] = inside
        for node in self.reader.order:
            if node.op_type in ALONE and node not in self.seen and not listed[node]:
                listed[node] = [self._alone(node)]
        return [miss for node in self.reader.order for miss in listed[node]]

    def _alone(self, node: ir.Node) -> NearMiss:
        dtype = self.survey.shapes.dtype(node.outputs[0])
        if dtype is not None and dtype not in FLOATS:
            return self._miss(node, node.op_type.lower(), f"its element type is {dtype.name}")
        reason = f"this {node.op_type} is not part of a known activation"
        return self._miss(node, node.op_type.lower(), reason)

    def _miss(
        self, node: ir.Node, kind: str, reason: str, nodes: Sequence[ir.Node] = ()
    ) -> NearMiss:
        inputs = tuple(value for value in node.inputs[:1] if value is not None)
        output = node.outputs[0]
        site = Site(
            kind, {}, "", inputs, output, (*nodes,) or (node,), "", self.scope,
            self.survey.shapes.dtype(output),
        )  # fmt: skip
        self.seen.update(site.nodes)
        return NearMiss(site, reason)

    def _alike(self, node: ir.Node) -> Iterator[NearMiss]:
        """Yield activations that would end in ``node`` after one change."""
        if node.op_type in NEVER_LAST or self.reader.elementwise(node.outputs[0]) is None:
            return
        ways = (self._by_constants, self._by_channels, self._by_biases, self._by_quantising)
        for way in ways:
            miss = next(way(node), None)
            if miss is not None:
                yield miss
                return

    def _expressions(self, node: ir.Node, reader: ExpressionReader) -> Iterator[Expression]:
        whole = (Factor(node.outputs[0]),)
        for one in itertools.islice(reader.expressions(whole, None), MAX_MISSED_EXPRESSIONS):
            if len(one.nodes) > MAX_MISSED_NODES:
                return
            if any(inner.op_type in TELLING for inner in one.nodes):
                yield one

    def _by_constants(self, node: ir.Node) -> Iterator[NearMiss]:
        for expression in self._expressions(node, self.reader):
            for given in _corrected(expression, self.reader):
                found = match(self.reader, expression, given)
                if found is not None:
                    yield self._miss(
                        node, found.kind, _differing(given, self.reader), expression.nodes
                    )

    def _by_channels(self, node: ir.Node) -> Iterator[NearMiss]:
        for found in channelled(node, self.reader, TELLING):
            (kind, *others) = sorted(found.kinds)
            if not others and found.ranges:
                nodes = found.first.expression.nodes
                yield self._miss(node, kind, _varying(found.ranges), nodes)

    def _by_biases(self, node: ir.Node) -> Iterator[NearMiss]:
        own, reader = self.reader, self._without_rows
        rows = reader.rows
        for found in matches(reader, self._expressions(node, reader)):
            added = {
                value.name: rows.of(value)
                for inner in found.expression.nodes
                for value in inner.inputs
                if value is not None and own.constant(value) is None and rows.of(value) is not None
            }
            if added and not any(v is not None and v.name in added for v in node.inputs):
                reason = f"{', '.join(map(str, added))}, a row of weights, is added inside"
                yield self._miss(node, found.kind, reason, found.expression.nodes)

    def _by_quantising(self, node: ir.Node) -> Iterator[NearMiss]:
        reader = self._without_quantising
        if reader is None:
            return
        for found in matches(reader, self._expressions(node, reader)):
            inside = [n for n in found.expression.nodes if n.op_type in QUANTISING]
            if inside:
                reason = f"it is quantised inside, by {inside[0].name or inside[0].op_type}"
                yield self._miss(node, found.kind, reason, found.expression.nodes)


def _corrected(
    expression: Expression, reader: ExpressionReader
) -> Iterator[Mapping[ir.Value, float]]:
    """Yield the numbers that were probably meant, in place of slightly wrong ones."""
    near: dict[ir.Value, list[float]] = {}
    for node in expression.nodes:
        for value in node.inputs:
            found = None if value is None else reader.constant(value)
            if value is not None and found is not None and found.number:
                size = abs(found.number)
                meant = (m for m in MEANT if 0 < abs(m - size) <= MEANT_CONSTANT * m)
                near[value] = [math.copysign(m, found.number) for m in meant]
    # One wrong constant is the usual case, such as 1.4142 for √2; then all of them at once.
    near = {value: numbers for value, numbers in near.items() if numbers}
    one_each = [{value: number} for value, numbers in near.items() for number in numbers]
    yield from one_each[:MAX_MISSED_TRIALS]
    if len(near) > 1:
        every = [[(value, number) for number in numbers] for value, numbers in near.items()]
        yield from map(dict, itertools.islice(itertools.product(*every), MAX_MISSED_TRIALS))


def _differing(given: Mapping[ir.Value, float], reader: ExpressionReader) -> str:
    pairs = []
    for value, meant in given.items():
        constant = reader.constant(value)
        if constant is not None:
            pairs.append(f"{constant.number!r}, expected {meant!r}")
    return f"the constant differs: {'; '.join(pairs)}"


def _varying(ranges: Mapping[str, ParameterRange]) -> str:
    told = (
        f"its {name} varies per channel, from {one.least:g} to {one.greatest:g} in {one.count}"
        for name, one in ranges.items()
    )
    return "; ".join(told)
