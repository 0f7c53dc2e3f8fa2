"""One value as a function of another: the nodes between them, evaluated at sample points.

The values do not depend on the spelling: ``x / (1 + exp(-x))``, ``x · σ(x)`` and a function that
contains either have the same values. Constants are part of the expression, with the rounding that
their dtype allows them; casts among floats pass everything on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.constants import (
    Constant,
    ConstantMemo,
    cast_target,
    constant,
    is_parameter,
)
from gatewave.graphs.analysis.node_functions import (
    CONTRIB,
    NodeFunction,
    attributes_of,
    is_biased,
    numbers_of,
    operands_of,
    ours,
)
from gatewave.graphs.analysis.numpy_ops import FLOATS, ContribOps, NotElementwiseError, NumpyOps
from gatewave.graphs.analysis.thresholds import (
    MAX_CALL_DEPTH,
    MAX_EXPRESSION_NODES,
    MAX_PENDING,
    MAX_PRODUCT_SOURCES,
    MAX_SOURCES,
    NAMED_FUNCTION,
)
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.recognition.operators import ELEMENTWISE
from gatewave.models import Operator
from gatewave.models.catalogue import OPERATORS

_LINE = np.linspace(-4.7, 4.3, 19)
"""Points at which a function of our domain must equal the formula of its name."""


@dataclass(frozen=True, slots=True)
class Factor:
    """``value`` to the power of 1 or -1."""

    value: ir.Value
    power: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A product as a function of ``source``.

    Attributes:
        factors: Factors of the product.
        coefficient: A number that is multiplied besides.
        source: The value that it depends on, apart from constants and ``parameter``.
        nodes: The nodes in between, in the graph's order.
        parameter: A scalar input of the model, with a default: the alpha of our own graphs.
        constants: The numbers inside.
        bias: A tensor that a contributed operator adds to ``source`` first: then it is a function
            of the sum.
    """

    factors: tuple[Factor, ...]
    coefficient: float
    source: ir.Value
    nodes: tuple[ir.Node, ...]
    parameter: ir.Value | None
    constants: tuple[Constant, ...]
    bias: ir.Value | None = None

    def roundoff(self) -> float:
        """Sum of the relative rounding errors of the constants."""
        return sum({c.number: c.roundoff for c in self.constants}.values())


@dataclass(frozen=True, slots=True, eq=False)
class ExpressionReader:
    """Reads the expressions of one graph.

    Attributes:
        graph: The graph; values made outside it are not analysed.
        functions: The model's functions, which are analysed.
        order: The graph's nodes, and where each is.
        depth: The depth of nested function calls that are analysed.
        found: Memo of `candidates` for the nodes of a function.
        channels: Memo of `channels` with the readers of single channels.
    """

    graph: ir.Graph
    functions: Mapping[ir.OperatorIdentifier, ir.Function]
    order: dict[ir.Node, int]
    depth: int = MAX_CALL_DEPTH
    found: dict[ir.Node, list[Any]] = field(default_factory=dict)
    channels: list[Any] = field(default_factory=list)
    _constants: ConstantMemo = field(default_factory=dict)
    _meanings: dict[ir.Node, NodeFunction | None] = field(default_factory=dict)
    _inside: dict[tuple[ir.OperatorIdentifier, int], ExpressionReader] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        graph: ir.Graph | ir.Function,
        functions: Mapping[ir.OperatorIdentifier, ir.Function],
    ) -> ExpressionReader:
        inner = graph.graph if isinstance(graph, ir.Function) else graph
        return cls(inner, functions, {node: i for i, node in enumerate(inner)})

    def inside(self, function: ir.Function) -> ExpressionReader:
        """Return the reader of a function's body, shared by its calls; ``depth`` must not be 0."""
        key = function.identifier(), self.depth - 1
        if key not in self._inside:
            order = {node: i for i, node in enumerate(function)}
            body, depth = function.graph, self.depth - 1
            self._inside[key] = ExpressionReader(
                body, self.functions, order, depth, _inside=self._inside
            )
        return self._inside[key]

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
        bias: ir.Value | None = None
        sources = 0
        size = 0
        max_sources = MAX_SOURCES if len(factors) == 1 else MAX_PRODUCT_SOURCES
        while (
            0 < len(pending) <= MAX_PENDING
            and min(MAX_EXPRESSION_NODES - size, max_sources - sources) > 0
        ):
            if len(pending) == 1 and (nodes or len(factors) > 1):
                (source,) = pending
                sources += 1
                inside = tuple(reversed(nodes))
                yield Expression(factors, number, source, inside, parameter, tuple(constants), bias)
            # Nodes are taken apart from the last to the first, so each value is met only once.
            latest = max(pending, key=lambda value: self.position(value.producer()))
            node = self.elementwise(latest)
            # Behind a bias, the value is a function of a sum, and of nothing before it.
            if node is None or bias is not None or self._is_of_constants_alone(node):
                return
            pending.remove(latest)
            nodes.append(node)
            size += self._size(node)
            given, bias = self._given(node)
            if bias is not None and pending:
                return
            constants += [*self._numbers(node), *self._constants_among(given)]
            for value in given:
                if is_parameter(value) and parameter in {None, value}:
                    parameter = value
                elif self.constant(value) is None:
                    pending.add(value)

    def _given(self, node: ir.Node) -> tuple[tuple[ir.Value, ...], ir.Value | None]:
        """Return the operands of ``node``, and its bias if it adds one to the first."""
        given = operands_of(node)
        return (given[:1], given[1]) if is_biased(node) else (given, None)

    def _constants_among(self, values: Iterable[ir.Value]) -> Iterator[Constant]:
        found = (self.constant(value) for value in values)
        return (constant for constant in found if constant is not None)

    def elementwise(self, value: ir.Value) -> ir.Node | None:
        """The node of this graph that makes ``value``, if it works element by element."""
        node = value.producer()
        if node is None or node not in self.order or value.index() != 0:
            return None
        return node if self._meaning(node) is not None else None

    def _is_of_constants_alone(self, node: ir.Node) -> bool:
        """A node that is no constant computes something unknown here, such as integers."""
        return all(value is None or self.constant(value) is not None for value in node.inputs)

    def _size(self, node: ir.Node) -> int:
        meaning = self._meaning(node)
        return 1 if meaning is None else meaning.size

    def position(self, node: ir.Node | None) -> int:
        """Return the node's position in the graph; -1 if it is elsewhere."""
        return -1 if node is None else self.order.get(node, -1)

    def constant(self, value: ir.Value) -> Constant | None:
        return constant(value, self._constants)

    def is_named(self, node: ir.Node) -> bool:
        """Return true if ``node`` is one of ours and the model's function agrees with its name."""
        if node.domain != DOMAIN or node.op_type not in OPERATORS:
            return False
        function = self.functions.get(node.op_identifier())
        return function is None or self._is_ours(function, OPERATORS[node.op_type][1])

    def _is_ours(self, function: ir.Function, operator: Operator) -> bool:
        meaning = self._function(function)
        if meaning is None:
            return False
        # Shifted, so that two inputs differ at every point.
        tensors = [np.roll(_LINE, n) for n in range(len(function.inputs) - len(operator.reals))]
        # Not the default 1, at which a parameter in another place may have no effect.
        reals = dict.fromkeys(operator.reals, 1.25)
        try:
            with np.errstate(all="ignore"):
                does = meaning.compute(NumpyOps(), {}, *tensors, *reals.values())
                says = operator.value(NumpyOps(), *tensors, **reals)
        except (NotElementwiseError, TypeError):
            return False
        return not any(c.shape for c in meaning.constants) and bool(
            np.allclose(does, says, rtol=NAMED_FUNCTION, atol=NAMED_FUNCTION)
        )

    def _meaning(self, node: ir.Node) -> NodeFunction | None:
        if node not in self._meanings:
            self._meanings[node] = self._found_meaning(node)
        return self._meanings[node]

    def _found_meaning(self, node: ir.Node) -> NodeFunction | None:
        """The Python function that the node stands for, of an ``op`` and the operands."""
        attributes = attributes_of(node)
        if self.is_named(node):
            return ours(OPERATORS[node.op_type][1], attributes)
        function = self.functions.get(node.op_identifier())
        # Attributes of a call may change what the body computes.
        if function is not None:
            return None if node.attributes else self._function(function)
        if node.op_type not in ELEMENTWISE.get(node.domain, ()) or attributes is None:
            return None
        # A cast to integers truncates, which is a function of its own.
        if node.op_type == "Cast" and cast_target(node) not in {*FLOATS, ir.DataType.BOOL}:
            return None
        return NodeFunction(
            lambda op, _, *operands: getattr(op, node.op_type)(*operands, **attributes)
        )

    def _function(self, function: ir.Function) -> NodeFunction | None:
        """A function of the model's own, if all that it does is done element by element."""
        if len(function.outputs) != 1 or len(function) > MAX_EXPRESSION_NODES or self.depth == 0:
            return None
        inside = self.inside(function)
        nodes = [node for node in function if node.op_type != "Constant"]
        meanings = [inside._meaning(node) for node in nodes]  # noqa: SLF001
        whole = [meaning for meaning in meanings if meaning is not None]
        size = 1 + sum(meaning.size for meaning in whole)
        if len(whole) < len(meanings) or size > MAX_EXPRESSION_NODES:
            return None

        def compute(op: Any, besides: Mapping[ir.Value, Any], *operands: Any) -> Any:
            known = {**besides, **dict(zip(function.inputs, operands, strict=False))}
            return inside.values(op, tuple(function), known)[function.outputs[0]]

        constants, casts = inside._numbers_of(nodes), inside._casts_of(nodes)  # noqa: SLF001
        return NodeFunction(compute, size, constants, casts)

    def values(
        self, op: Any, nodes: Sequence[ir.Node], known: dict[ir.Value, Any]
    ) -> dict[ir.Value, Any]:
        """Return ``known`` with the values that the nodes compute from it.

        Raises:
            NotElementwiseError: A node is used in a way that is not element by element.
        """
        for node in nodes:
            meaning = self._meaning(node)
            if meaning is None:
                continue
            operands = [self._operand(value, known) for value in node.inputs]
            # Contributed operators record no branch points: theirs are smooth.
            own = ContribOps() if node.domain == CONTRIB else op
            try:
                known[node.outputs[0]] = meaning.compute(own, known, *operands)
            except (TypeError, ValueError, ArithmeticError) as error:
                raise NotElementwiseError(f"{node.op_type}: {error}") from error
        return known

    def evaluate(
        self, expression: Expression, points: Any, op: Any, given: Mapping[ir.Value, float]
    ) -> Any:
        """The expression at ``points`` of its source, computed by ``op``.

        Args:
            expression: Expression to evaluate.
            points: A line of numbers.
            op: See `NumpyOps`.
            given: The number that its parameter has; others are in the place of constants.

        Raises:
            NotElementwiseError: The expression does not work element by element.
        """
        # A bias is added to the source, so the function of the sum is that of a bias of 0.
        bias = {} if expression.bias is None else {expression.bias: 0.0}
        known: dict[ir.Value, Any] = {**bias, expression.source: points, **given}
        with np.errstate(all="ignore"):
            self.values(op, expression.nodes, known)
            result = np.full_like(points, expression.coefficient)
            for factor in expression.factors:
                operand = np.asarray(self._operand(factor.value, known), float)
                result = result * operand if factor.power > 0 else result / operand
        return result

    def _numbers_of(self, nodes: Sequence[ir.Node]) -> tuple[Constant, ...]:
        """The numbers that ``nodes`` take, and those inside them."""
        taken = (self.constant(v) for node in nodes for v in node.inputs if v is not None)
        inside = (number for node in nodes for number in self._numbers(node))
        return (*(number for number in taken if number is not None), *inside)

    def _numbers(self, node: ir.Node) -> tuple[Constant, ...]:
        """Return the numbers inside ``node``: its attributes, or those of the function it calls."""
        meaning = self._meaning(node)
        return (*numbers_of(node), *(() if meaning is None else meaning.constants))

    def _casts_of(self, nodes: Sequence[ir.Node]) -> frozenset[ir.DataType | None]:
        """Types to which ``nodes`` cast, except for constants, with those inside functions."""
        casts = (node for node in nodes if node.op_type == "Cast" and node.domain == "")
        targets = {cast_target(c) for c in casts if self.constant(c.outputs[0]) is None}
        return frozenset({*targets, *self.casts_within(nodes)} - {ir.DataType.BOOL})

    def casts_within(self, nodes: Iterable[ir.Node]) -> frozenset[ir.DataType | None]:
        """Types to which the functions that ``nodes`` call cast."""
        meanings = (self._meaning(node) for node in nodes)
        return frozenset(cast for meaning in meanings if meaning for cast in meaning.casts)

    def constants_of(self, nodes: Iterable[ir.Node], less_than: float) -> Iterator[ir.Value]:
        """The constants that ``nodes`` take, in functions too, but for 0 and greater ones."""
        for node in nodes:
            for value in node.inputs:
                found = None if value is None else self.constant(value)
                if value is not None and found is not None and 0 < abs(found.number) < less_than:
                    yield value
            function = self.functions.get(node.op_identifier())
            if function is not None and self.depth > 0:
                yield from self.inside(function).constants_of(function, less_than)

    def _operand(self, value: ir.Value | None, known: Mapping[ir.Value, Any]) -> Any:
        if value is None or value in known:
            return None if value is None else known[value]
        found = self.constant(value)
        if found is None:
            raise NotElementwiseError(f"{value.name} is no constant")
        return found.number
