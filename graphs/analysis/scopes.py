"""The graphs that a model is made of: its own, the bodies inside its nodes, and its functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Scope:
    """A graph, and the opsets that give its nodes their meaning.

    Attributes:
        name: Empty for the model's own graph; ``layer/If_3/then_branch`` for a body inside a node;
            ``function ai.foo::Bar`` for a function, ``function ai.foo::Bar/Loop_0/body`` inside it.
        graph: A function's is the function itself.
        opsets: Version by domain, the model's own or the function's. It is no copy: an import that
            is added to the one is seen in the other.
    """

    name: str
    graph: ir.Graph | ir.Function
    opsets: Mapping[str, int]

    @property
    def in_function(self) -> bool:
        """Return true for a function and the bodies in it."""
        return self.name.startswith("function ")

    @property
    def opset(self) -> int:
        """Version of the standard operators; 1 if the graph imports none."""
        return standard_opset(self.opsets) or 1

    def values(self) -> Iterator[ir.Value]:
        """Yield all values of the graph, in an order that clones share; those of bodies not."""
        yield from self.graph.inputs
        if isinstance(self.graph, ir.Graph):
            yield from self.graph.initializers.values()
        for node in self.graph:
            yield from node.outputs


def standard_opset(imports: Mapping[str, int]) -> int | None:
    """Return the version of the standard operators; ONNX has two names for their domain."""
    return imports.get("", imports.get("ai.onnx"))


def scopes(model: ir.Model) -> Iterator[Scope]:
    """The main graph, then each function, every one followed by the bodies inside its nodes.

    A function has opset imports of its own; a body has those of the graph that it is in. What is
    inside a node comes before what is inside the next, and an outer body before its inner ones.
    """
    yield from _with_bodies(Scope("", model.graph, model.opset_imports))
    for function in list(model.functions.values()):
        name = f"function {function.domain}::{function.name}"
        if function.overload:
            name += f":{function.overload}"
        yield from _with_bodies(Scope(name, function, function.opset_imports))


def _with_bodies(scope: Scope) -> Iterator[Scope]:
    yield scope
    for index, node in enumerate(list(scope.graph)):
        for attribute, body in _bodies(node):
            parts = (scope.name, node.name or f"{node.op_type}_{index}", attribute)
            name = "/".join(part for part in parts if part)
            yield from _with_bodies(Scope(name, body, scope.opsets))


def _bodies(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    for attribute in list(node.attributes.values()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.name, attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            for index, body in enumerate(attribute.as_graphs()):
                yield f"{attribute.name}[{index}]", body
