"""Difference of two graphs: the nodes that they do not share, and the values at the boundary.

A node is shared if both main graphs have it with the same operator, attributes, constants and names
of inputs and outputs. All other nodes are changed. A value that both graphs name is a boundary:
changed nodes are compared from boundary to boundary, on equal inputs. If no difference is found
there, the models differ by roundings only, because all other nodes are the same (ADR 33).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from gatewave.graphs.analysis.element_types import bodies


@dataclass(frozen=True)
class GraphDifference:
    """Nodes that two models do not share.

    Attributes:
        nodes: The changed nodes of each, by their first outputs, with the constants they need.
        inputs: Values that the nodes of each take, and that both models have.
        outputs: Values that these give, and that both models have.
    """

    nodes: tuple[Sequence[str], Sequence[str]]
    inputs: tuple[Sequence[str], Sequence[str]]
    outputs: Sequence[str]


def graph_difference(original: ir.Model, rewritten: ir.Model) -> GraphDifference:
    """Return the nodes that the main graphs of the two models do not share."""
    equal = _equal_constants(original, rewritten)
    graphs = [_NodeIndex(model, equal) for model in (original, rewritten)]
    names = [set(nodes.by_name) for nodes in graphs]
    shared = {
        name
        for name in names[0] & names[1]
        if graphs[0].signature(name) == graphs[1].signature(name)
    }
    different = [[n for n in nodes.by_name if n not in shared] for nodes in graphs]
    made = [{v.name or "" for n in nodes.by_name.values() for v in n.outputs} for nodes in graphs]
    given = {value.name or "" for value in original.graph.inputs}
    common = (made[0] & made[1]) | given
    taken = {
        v
        for nodes, some in zip(graphs, different, strict=True)
        for n in some
        for v in nodes.taken(n)
    }
    outputs = {v.name or "" for n in different[0] for v in graphs[0].by_name[n].outputs}
    constants = [
        [n for n in nodes.constants() if n in taken and n not in some]
        for nodes, some in zip(graphs, different, strict=True)
    ]
    weights = original.graph.initializers
    inputs = [
        sorted(v for v in taken & common if v and v not in held and v not in weights)
        for held in constants
    ]
    wanted = [
        nodes.closed([*some, *few])
        for nodes, some, few in zip(graphs, different, constants, strict=True)
    ]
    return GraphDifference(
        (wanted[0], wanted[1]), (inputs[0], inputs[1]), sorted(outputs & common - {""})
    )


def _equal_constants(original: ir.Model, rewritten: ir.Model) -> Callable[[str], bool]:
    """Return true if no initializer of that name differs between the models."""
    known: dict[str, bool] = {}

    def equal(name: str) -> bool:
        if name not in known:
            ones = [model.graph.initializers.get(name) for model in (original, rewritten)]
            known[name] = _same(*(None if one is None else one.const_value for one in ones))
        return known[name]

    return equal


def _same(one: ir.TensorProtocol | None, other: ir.TensorProtocol | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.dtype, tuple(one.shape)) == (other.dtype, tuple(other.shape)) and np.array_equal(
        _bits(one), _bits(other)
    )


def _bits(tensor: ir.TensorProtocol) -> Any:
    if tensor.dtype == ir.DataType.STRING:
        return np.asarray(tensor.numpy())
    array = np.ascontiguousarray(tensor.numpy())
    return array.reshape(-1).view(np.uint8)


def _digest(tensor: ir.TensorProtocol) -> str:
    bits = _bits(tensor)
    content = repr(bits.tolist()).encode() if bits.dtype == object else bits
    return hashlib.blake2b(content).hexdigest()


class _NodeIndex:
    """The nodes of a main graph, by the names of their first outputs."""

    def __init__(self, model: ir.Model, equal: Callable[[str], bool]) -> None:
        self._model = model
        self._equal = equal
        self._functions: dict[ir.OperatorIdentifier, Hashable] = {}
        self._constants = self._computed_of_constants()
        self.by_name: dict[str, ir.Node] = {}
        for node in model.graph:
            name = next((v.name for v in node.outputs if v.name), None)
            if name:
                self.by_name[name] = node

    def signature(self, name: str) -> Hashable:
        """Return a key that is equal for equal nodes; all constants have the same key."""
        node = self.by_name[name]
        own = all(self._equal(v) for v in self.taken(name))
        return (own, self._signed(node, self._model.opset_imports)) if own else (own, id(node))

    def taken(self, name: str) -> set[str]:
        """Return the names of the values that the node takes, including those in its bodies."""
        return set(_taken(self.by_name[name]))

    def constants(self) -> list[str]:
        """Return the nodes that compute constants from constants."""
        return [name for name, node in self.by_name.items() if self._is_constant(node)]

    def closed(self, names: Iterable[str]) -> list[str]:
        """Return ``names`` and the nodes that make their constant inputs, in order."""
        wanted = {*names}
        open_ = [*wanted]
        while open_:
            for value in self.by_name[open_.pop()].inputs:
                node = None if value is None else value.producer()
                name = node and next((v.name for v in node.outputs if v.name), None)
                if node and name and name not in wanted and self._is_constant(node):
                    wanted.add(name)
                    open_.append(name)
        return [name for name in self.by_name if name in wanted]

    def _is_constant(self, node: ir.Node) -> bool:
        return node in self._constants

    def _computed_of_constants(self) -> set[ir.Node]:
        """Return the nodes whose inputs are all constants; the graphs are sorted."""
        found: set[ir.Node] = set()
        for node in self._model.graph:
            if node.op_type.startswith("Random") or any(True for _ in bodies(node)):
                continue
            if all(
                value is None
                or (value.is_initializer() and not value.is_graph_input())
                or value.producer() in found
                for value in node.inputs
            ):
                found.add(node)
        return found

    # The opset may change the meaning: ReduceSum takes its axes as an input from opset 13 on.
    def _signed(self, node: ir.Node, opsets: Any) -> Hashable:
        domain = "" if node.domain == "ai.onnx" else node.domain
        return (
            domain,
            node.op_type,
            node.overload,
            _since(node.op_type, domain, opsets.get(domain, 1)),
            tuple(None if v is None else v.name for v in node.inputs),
            tuple(v.name for v in node.outputs),
            tuple(sorted((a.name, self._attribute(a, opsets)) for a in node.attributes.values())),
            self._function(node.op_identifier()),
        )

    def _function(self, identifier: ir.OperatorIdentifier) -> Hashable:
        function = self._model.functions.get(identifier)
        if function is None:
            return ""
        if identifier not in self._functions:
            self._functions[identifier] = "recursive"
            self._functions[identifier] = (
                tuple(v.name for v in (*function.inputs, *function.outputs)),
                tuple(sorted(function.attributes)),
                tuple(self._signed(node, function.opset_imports) for node in function),
            )
        return self._functions[identifier]

    def _attribute(self, attribute: ir.Attr, opsets: Any) -> str:
        """Return the attribute as text: attribute values of different types cannot be ordered."""
        if attribute.is_ref():
            return f"ref {attribute.ref_attr_name}"
        value = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            return f"{value.dtype} {tuple(value.shape)} {_digest(value)}"
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            graphs = [value] if attribute.type == ir.AttributeType.GRAPH else value
            return repr([self._body(graph, opsets) for graph in graphs])
        return f"{attribute.type} {value!r}"

    def _body(self, graph: ir.Graph, opsets: Any) -> Hashable:
        constants = sorted(
            (name, "" if v.const_value is None else _digest(v.const_value))
            for name, v in graph.initializers.items()
        )
        names = tuple(v.name for v in (*graph.inputs, *graph.outputs))
        return names, tuple(constants), tuple(self._signed(node, opsets) for node in graph)


def _since(op_type: str, domain: str, opset: int) -> int:
    """Return the opset since which the operator has the meaning of ``opset``."""
    try:
        return onnx.defs.get_schema(op_type, opset, domain).since_version
    except onnx.defs.SchemaError:
        return opset


def _taken(node: ir.Node) -> Iterator[str]:
    yield from (value.name for value in node.inputs if value is not None and value.name)
    for body in bodies(node):
        own = {value.name for value in (*body.inputs, *body.initializers.values())}
        own |= {value.name for inner in body for value in inner.outputs}
        yield from (v.name for v in body.outputs if v.name and v.name not in own)
        for inner in body:
            yield from (name for name in _taken(inner) if name not in own)
