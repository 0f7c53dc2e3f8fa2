"""Analysis that follows the rows of a batch through a graph, from its inputs to its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from gatewave.service.codecs.wire import MalformedError
from gatewave.service.onnx.proto import (
    AttributeProto,
    File,
    FunctionProto,
    ModelProto,
    NodeProto,
    Shape,
)
from gatewave.service.repository.rowwise import alongaxes, elementwise, linear, reshaping
from gatewave.service.repository.rowwise.operands import Operands, Outcome, Rule
from gatewave.service.repository.rowwise.values import (
    BATCH,
    Fresh,
    NotShown,
    Size,
    Value,
    constant,
    scalar,
    vector,
)

ONNX, ML, MICROSOFT = "", "ai.onnx.ml", "com.microsoft"
RULES: Mapping[str, Mapping[str, Rule]] = {
    ONNX: {**elementwise.RULES, **linear.RULES, **reshaping.RULES, **alongaxes.RULES},
    ML: alongaxes.TABLES,
    MICROSOFT: {**elementwise.MICROSOFT, **linear.MICROSOFT},
}
"""Rules that follow the rows through a node, by domain and operator."""

RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"}
    | {"Multinomial", "Bernoulli", "Dropout"}
)
"""Operators with different results at each run."""
CREATED_FROM_SIZES = frozenset({"Shape", "Size"})
MAX_NESTED_FUNCTIONS = 16
LONGEST_NAME = 60

Found = Value | NotShown


def unshown(model: bytes) -> str:
    """Return the reason why rows of ``model`` may affect each other; empty if there is none."""
    try:
        return unshown_in(model)
    except (MalformedError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        return f"its graph cannot be followed: {error}"


def unshown_in(data: bytes) -> str:
    """Return the reason why rows of the ONNX file ``data`` may affect each other, if any."""
    model = File(data).model()
    graph = model.graph
    if not graph.outputs:
        return "the graph has no outputs"
    fresh = Fresh()
    found: dict[str, Found] = {port.name: _input(port.shape, fresh) for port in graph.inputs}
    found |= {tensor.name: constant(tensor) for tensor in graph.tensors}
    scope = _Scope(model, model.opsets, fresh, found)
    scope.run(graph.nodes)
    return next(filter(None, (_wrong(name, scope.found) for name in graph.outputs)), "")


def _input(shape: Shape | None, fresh: Fresh) -> Found:
    """Return the value of an input of the graph: its first axis is the batch axis."""
    if not shape:
        return NotShown("an input has no first axis")
    rest = (fresh() if size is None or size < 0 else Size(size) for size in shape[1:])
    return Value((BATCH, *rest))


def _wrong(name: str, found: Mapping[str, Found]) -> str:
    """Return the reason why an output may not have one row for each input row, if there is one."""
    value = found.get(name, NotShown(f"output {_short(name)} is computed by no node"))
    if isinstance(value, NotShown):
        return str(value)
    if value.dims and value.dims[0] == BATCH:
        return ""
    return f"output {_short(name)} is not shown to have a row for each row of the inputs"


@dataclass(slots=True)
class _Scope:
    """Names of a graph, or of a function's body, and what is known of each.

    Attributes:
        arguments: The attributes of the call, in a function's body.
        depth: The number of enclosing functions.
    """

    model: ModelProto
    opsets: Mapping[str, int]
    fresh: Fresh
    found: dict[str, Found]
    arguments: Mapping[str, AttributeProto] = field(default_factory=dict)
    depth: int = 0

    def run(self, nodes: Sequence[NodeProto]) -> None:
        for node in nodes:
            results = self._results(node)
            for name, result in zip_longest(node.outputs, results[: len(node.outputs)]):
                unknown = NotShown(f"{_label(node)} has an output that no rule describes")
                self.found[name] = unknown if result is None else result

    def _results(self, node: NodeProto) -> Sequence[Found]:
        """Return what is known of the outputs of a node; errors name the node."""
        inputs = [self._of(name) for name in node.inputs]
        for value in inputs:
            if isinstance(value, NotShown):
                return [value] * len(node.outputs)
        values = [value for value in inputs if not isinstance(value, NotShown)]
        try:
            found = self._followed(node, values)
        except NotShown as why:
            return [NotShown(f"{_label(node)} {why}")] * len(node.outputs)
        return [_named(node, outcome) for outcome in found]

    def _of(self, name: str) -> Found | None:
        """Return the value of a name that a node reads; None for an omitted input."""
        if not name:
            return None
        return self.found.get(name, NotShown(f"{_short(name)} is read before it is computed"))

    def _followed(self, node: NodeProto, values: Sequence[Value | None]) -> Sequence[Outcome]:
        """Apply the rule of a node's operator, or follow the function that it calls.

        Raises:
            NotShown: Rows may affect each other in the node.
        """
        attributes = self._resolved(node.attributes)
        node = replace(node, attributes=attributes)
        function = self.model.functions.get((node.domain, node.operator, node.overload))
        if function is not None:
            return self._called(node, function, values)
        try:
            return _checked(node, values, self._ruled(node, values))
        except NotShown:
            if _is_constant(node, values):
                return [Value()] * len(node.outputs)
            raise

    def _ruled(self, node: NodeProto, values: Sequence[Value | None]) -> Sequence[Outcome]:
        """Apply the rule of the node's operator.

        Raises:
            NotShown: No rule describes the node.
        """
        if node.domain == ONNX and node.operator == "Constant":
            return [_constant(node.attributes)]
        rule = RULES.get(node.domain, {}).get(node.operator)
        if rule is None or any(a.graphs for a in node.attributes.values()):
            raise NotShown("may join the rows: no rule describes it")
        opset = self.opsets.get(node.domain, 1)
        count = len(node.outputs)
        try:
            return rule(Operands(node.operator, values, count, node.attributes, opset, self.fresh))
        except (LookupError, TypeError, ValueError) as error:
            raise NotShown("is written otherwise than its rule expects") from error

    def _resolved(self, attributes: Mapping[str, AttributeProto]) -> Mapping[str, AttributeProto]:
        """Return attributes in which references are replaced by the attributes of the call."""
        return {
            name: self.arguments[each.reference] if each.reference else each
            for name, each in attributes.items()
            if not each.reference or each.reference in self.arguments
        }

    def _called(
        self, node: NodeProto, function: FunctionProto, values: Sequence[Value | None]
    ) -> Sequence[Outcome]:
        """Follow the body of a function with the operands of its call."""
        if self.depth == MAX_NESTED_FUNCTIONS or node.domain in RULES:
            raise NotShown("calls a function that is not followed")
        given = dict(zip(function.inputs, values, strict=False))
        inner = _Scope(
            self.model,
            function.opsets,
            self.fresh,
            {name: value for name, value in given.items() if value is not None},
            {**function.defaults, **node.attributes},
            self.depth + 1,
        )
        missing = set(function.inputs) - inner.found.keys()
        inner.run([_without(each, missing) for each in function.nodes])
        unknown = NotShown("has an output that its function does not compute")
        return [inner.found.get(name, unknown) for name in function.outputs]


def _without(node: NodeProto, missing: set[str]) -> NodeProto:
    """Return a function's node without the inputs ``missing``, which the call omits."""
    inputs = tuple("" if name in missing else name for name in node.inputs)
    return replace(node, inputs=inputs)


def _constant(attributes: Mapping[str, AttributeProto]) -> Value:
    """Return the value of a Constant node."""
    for name, attribute in attributes.items():
        if name == "value" and attribute.tensor is not None:
            return constant(attribute.tensor)
        if name == "value_int":
            return scalar(Size(attribute.integer))
        if name == "value_ints":
            return vector([Size(number) for number in attribute.integers])
        if name == "value_float":
            return scalar(attribute.number)
        if name == "value_floats":
            return vector(attribute.numbers)
    return Value()


def _is_constant(node: NodeProto, values: Sequence[Value | None]) -> bool:
    """Return whether a node without a rule gives the same result for every batch."""
    given = [value for value in values if value is not None]
    graphs = any(attribute.graphs for attribute in node.attributes.values())
    return (
        node.domain in {ONNX, ML}
        and node.operator not in RANDOM
        and not graphs
        and not any(value.is_batched or value.is_sized for value in given)
    )


def _checked(
    node: NodeProto, values: Sequence[Value | None], results: Sequence[Outcome]
) -> Sequence[Outcome]:
    """Check that a batched input gives a batched output: a second check of the rules."""
    batched = any(value is not None and value.is_batched for value in values)
    if batched and node.operator not in CREATED_FROM_SIZES:
        for result in results:
            if isinstance(result, Value) and not result.is_batched:
                raise NotShown("joins the rows")
    return results


def _named(node: NodeProto, outcome: Outcome) -> Found:
    """Return an outcome of a rule; a finding gets the name of the node."""
    if isinstance(outcome, Value):
        return outcome
    text = str(outcome)
    return outcome if text.startswith("node ") else NotShown(f"{_label(node)} {text}")


def _label(node: NodeProto) -> str:
    """Return the name and operator of a node for messages."""
    name = node.name or next(filter(None, node.outputs), "")
    domain = f"{node.domain}." if node.domain else ""
    return f"node {_short(name)} ({domain}{_short(node.operator)})"


def _short(name: str) -> str:
    """Return a name for messages, escaped and cut: it comes from the file."""
    shown = ascii(name)[1:-1]
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}..."
