"""What a value computes of another: the nodes between the two, evaluated at sample points.

A normal form that knows no spelling: ``x / (1 + exp(-x))``, ``x · σ(x)`` and a function that holds
either are the same numbers. Constants are part of the expression, with the rounding that their
dtype allows them; casts among floats pass everything on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from export.recognition.constants import (
    Constant,
    cast_target,
    constant,
    is_parameter,
    roundoff,
)
from export.recognition.numpy_ops import FLOATS, ContribOps, NotElementwiseError, NumpyOps, Parting
from export.signature import DOMAIN
from models import ACTIVATIONS, Operator

CONTRIB = "com.microsoft"

OPERATORS: Mapping[str, Operator] = {
    operator.op_type: operator
    for activation in ACTIVATIONS.values()
    for operator in activation.operators
}
"""Ours, by the types of their nodes."""

ELEMENTWISE = {
    "": {name for name in dir(NumpyOps) if name[0].isupper()},
    CONTRIB: {name for name in vars(ContribOps) if name[0].isupper()},
}
"""The operators that have a meaning here, by their domains."""

MOST_NODES = 220
"""Ours for float64, which does without Erf, has the most: about 150."""
MOST_PENDING = 8
MOST_SOURCES = 16
MOST_SOURCES_OF_PRODUCTS = 4
"""How far is looked: of a product, one factor is what the others depend on, but for casts."""


@dataclass(frozen=True, slots=True)
class Factor:
    """``value`` to the power of 1 or -1."""

    value: ir.Value
    power: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A product as a function of ``source``.

    Attributes:
        factors: What is multiplied.
        coefficient: A number that is multiplied besides.
        source: All that it depends on, but for constants and ``parameter``.
        nodes: What lies between, in the graph's order.
        parameter: A scalar input of the model, with a default: the alpha of our own graphs.
        constants: The numbers inside.
    """

    factors: tuple[Factor, ...]
    coefficient: float
    source: ir.Value
    nodes: tuple[ir.Node, ...]
    parameter: ir.Value | None
    constants: tuple[Constant, ...]

    def roundoff(self) -> float:
        """How far, relatively, the constants may be from what they stand for, all together."""
        return sum({c.number: c.roundoff for c in self.constants}.values())


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """Reads the expressions of one graph.

    Attributes:
        graph: The graph; what is made outside it is not looked into.
        functions: The model's, which are looked into.
    """

    graph: ir.Graph
    functions: Mapping[ir.OperatorIdentifier, ir.Function]
    order: dict[ir.Node, int]
    _constants: dict[ir.Value, Constant | None] = field(default_factory=dict)
    _meanings: dict[ir.Node, Callable[..., Any] | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        graph: ir.Graph | ir.Function,
        functions: Mapping[ir.OperatorIdentifier, ir.Function],
    ) -> Reader:
        inner = graph.graph if isinstance(graph, ir.Function) else graph
        return cls(inner, functions, {node: i for i, node in enumerate(inner)})

    def expressions(
        self, factors: tuple[Factor, ...], coefficient: Constant | None
    ) -> Iterator[Expression]:
        """The product as a function of one value: of the nearest such value first.

        Always the latest of the pending values is replaced by what it is made of: whenever one
        alone is left, the product depends on it and on nothing else.
        """
        pending = {factor.value for factor in factors}
        nodes: list[ir.Node] = []
        constants = [] if coefficient is None else [coefficient]
        number = 1.0 if coefficient is None else coefficient.number
        parameter: ir.Value | None = None
        sources = 0
        most_sources = MOST_SOURCES if len(factors) == 1 else MOST_SOURCES_OF_PRODUCTS
        while (
            0 < len(pending) <= MOST_PENDING
            and min(MOST_NODES - len(nodes), most_sources - sources) > 0
        ):
            if len(pending) == 1 and (nodes or len(factors) > 1):
                (source,) = pending
                sources += 1
                inside = tuple(reversed(nodes))
                yield Expression(factors, number, source, inside, parameter, tuple(constants))
            latest = max(pending, key=lambda value: self.position(value.producer()))
            node = self.elementwise(latest)
            if node is None:
                return
            pending.remove(latest)
            nodes.append(node)
            constants += _numbers(node)
            for value in node.inputs:
                if value is None or (found := self.constant(value)) is not None:
                    constants += [] if value is None else [found]  # type: ignore[list-item]
                elif is_parameter(value) and parameter in {None, value}:
                    parameter = value
                else:
                    pending.add(value)

    def elementwise(self, value: ir.Value) -> ir.Node | None:
        """The node of this graph that makes ``value``, if it works element by element."""
        node = value.producer()
        if node is None or node not in self.order or value.index() != 0:
            return None
        return node if self._meaning(node) is not None else None

    def position(self, node: ir.Node | None) -> int:
        """Where in the graph the node is; before its beginning, if it is elsewhere."""
        return -1 if node is None else self.order.get(node, -1)

    def constant(self, value: ir.Value) -> Constant | None:
        if value not in self._constants:
            self._constants[value] = constant(value)
        return self._constants[value]

    def _meaning(self, node: ir.Node) -> Callable[..., Any] | None:
        if node not in self._meanings:
            self._meanings[node] = self._found_meaning(node)
        return self._meanings[node]

    def _found_meaning(self, node: ir.Node) -> Callable[..., Any] | None:
        """The Python function that the node stands for, of an ``op`` and the operands."""
        if node.domain == DOMAIN:
            return self._ours(node)
        function = self.functions.get(node.op_identifier())
        if function is not None:
            return self._function(function, node)
        attributes = _attributes(node)
        if node.op_type not in ELEMENTWISE.get(node.domain, ()) or attributes is None:
            return None
        if node.op_type == "Cast" and cast_target(node) not in FLOATS:
            return None
        return lambda op, *operands: getattr(op, node.op_type)(*operands, **attributes)

    def _ours(self, node: ir.Node) -> Callable[..., Any] | None:
        """By its name: the real parameters are scalar inputs, or attributes."""
        operator, attributes = OPERATORS.get(node.op_type), _attributes(node)
        if operator is None or attributes is None or not {*attributes} <= {*operator.reals}:
            return None
        return lambda op, *operands: operator.value(op, *operands, **attributes)

    def _function(self, function: ir.Function, call: ir.Node) -> Callable[..., Any] | None:
        """A function of the model's own, if all that it does is done element by element."""
        if len(function.outputs) != 1 or len(function) > MOST_NODES or call.attributes:
            return None
        inside = Reader.of(function, self.functions)
        if any(n.domain == call.domain and n.op_type == call.op_type for n in function):
            return None  # recursive
        if any(n.op_type != "Constant" and inside._meaning(n) is None for n in function):  # noqa: SLF001
            return None

        def compute(op: Any, *operands: Any) -> Any:
            known = dict(zip(function.inputs, operands, strict=False))
            return inside.values(op, tuple(function), known)[function.outputs[0]]

        return compute

    def values(
        self, op: NumpyOps, nodes: Sequence[ir.Node], known: dict[ir.Value, Any]
    ) -> dict[ir.Value, Any]:
        """``known``, and what the nodes make of it.

        Raises:
            NotElementwiseError: A node is used in a way that is not element by element.
        """
        for node in nodes:
            meaning = self._meaning(node)
            if meaning is None:
                continue
            operands = [self._operand(value, known) for value in node.inputs]
            own = ContribOps() if node.domain == CONTRIB else op
            try:
                known[node.outputs[0]] = meaning(own, *operands)
            except (TypeError, ValueError) as error:
                raise NotElementwiseError(f"{node.op_type}: {error}") from error
        return known

    def evaluate(
        self, expression: Expression, points: Any, parameter: float = 1.0
    ) -> tuple[Any, list[Parting]]:
        """The expression at ``points`` of its source, and where its branches part.

        Raises:
            NotElementwiseError: It has no meaning element by element.
        """
        op = NumpyOps()
        known: dict[ir.Value, Any] = {expression.source: points}
        if expression.parameter is not None:
            known[expression.parameter] = parameter
        with np.errstate(all="ignore"):
            self.values(op, expression.nodes, known)
            result = np.full_like(points, expression.coefficient)
            for factor in expression.factors:
                operand = np.asarray(self._operand(factor.value, known), float)
                result = result * operand if factor.power > 0 else result / operand
        return result, op.partings

    def _operand(self, value: ir.Value | None, known: Mapping[ir.Value, Any]) -> Any:
        if value is None or value in known:
            return None if value is None else known[value]
        found = self.constant(value)
        if found is None:
            raise NotElementwiseError(f"{value.name} is no constant")
        return found.number


def _attributes(node: ir.Node) -> dict[str, Any] | None:
    """As keyword arguments; None where one is a function's attribute, which a call gives."""
    found: dict[str, Any] = {}
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        found[name] = attribute.value
    return found


def _numbers(node: ir.Node) -> list[Constant]:
    """The attributes that are numbers, rounded as they are to float32."""
    values = [a.value for a in node.attributes.values() if a.type == ir.AttributeType.FLOAT]
    return [Constant(v, roundoff(v, ir.DataType.FLOAT), 0) for v in values if v is not None]
