"""Editor of a model: one way to put nodes in place of others, and to remove what is unused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import bodies
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.rewrite.editing.drawing import Constants, Drawing, release_inputs
from gatewave.graphs.rewrite.editing.names import Names, inside


class Editor:
    """Editor of one model, for one rewrite.

    It changes the nodes that a rewrite names, and removes only what these nodes alone have used.
    onnx_ir's passes `RemoveUnusedNodesPass`, `RemoveUnusedFunctionsPass` and
    `RemoveUnusedOpsetsPass` clean a whole model: they would also remove what its author left
    unused, and the written file would differ at places that no change names.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.names = Names(model)
        self._constants = Constants(model, self.names)
        self._removed: set[ir.OperatorIdentifier] = set()

    def drawing(
        self,
        node: ir.Node,
        scope: Scope,
        dtype: ir.DataType = ir.DataType.FLOAT,
        *,
        prefix: str | None = None,
    ) -> Drawing:
        """Return an ``op`` that draws nodes for the place of ``node``.

        Args:
            node: The node to replace; see `replace`.
            scope: The graph that it is in.
            dtype: Element type of the numbers among operands; 16-bit floats become float32.
            prefix: Prefix of the new names; the node's own name by default.
        """
        has_initializers = self._constants.are_initializers and not scope.in_function
        return Drawing(
            dtype,
            scope.opset,
            prefix=inside(node) if prefix is None else prefix,
            names=self.names,
            constants=self._constants if has_initializers else None,
        )

    def insert(self, op: Drawing, before: ir.Node) -> None:
        """Insert the drawn nodes before a node of any graph, body or function."""
        graph = before.graph
        assert graph is not None  # noqa: S101 - the node was found in a graph
        graph.insert_before(before, op.nodes)

    def replace(
        self,
        node: ir.Node,
        new: Sequence[ir.Node],
        outputs: Sequence[tuple[ir.Value, ir.Value]],
    ) -> None:
        """Put ``new`` in the place of ``node``, which is removed.

        Each new output takes over the name, type, shape, metadata, documentation and users of the
        old one, so that the rest of the graph is unchanged. `ir.convenience` does not copy metadata
        and documentation; `Value.meta` has the annotation of a quantised tensor.

        Args:
            node: A node of the main graph, of a body, or of a function.
            new: The nodes, in order; of a drawing, those that `Drawing.needed` returns.
            outputs: Pairs of an output of ``node`` and the value that replaces it.
        """
        graph = node.graph
        assert graph is not None  # noqa: S101 - the node was found in a graph
        # replace_nodes_and_values removes nodes only if nothing uses their outputs. Other nodes of
        # an activation may have users that are replaced later, so they are left to `sweep`.
        before = [old for old, _ in outputs]
        after = [value for _, value in outputs]
        for old, value in outputs:
            value.metadata_props.update(old.metadata_props)
            value.meta.update(old.meta)
            value.doc_string = old.doc_string
        for drawn in new:
            drawn.metadata_props.update(node.metadata_props)
            drawn.doc_string = node.doc_string
        ir.convenience.replace_nodes_and_values(graph, node, [node], new, before, after)
        self._removed.add(node.op_identifier())

    def sweep(self, values: Iterable[ir.Value | None]) -> None:
        """Remove initializers among ``values``, and nodes that made others, if they are unused.

        The values that removed nodes and their bodies take are swept, too. Inputs of the model
        stay: they are its interface. Call it with the former inputs of replaced nodes.
        """
        waiting = [value for value in values if value is not None]
        while waiting:
            value = waiting.pop()
            if value.uses() or value.is_graph_output():
                continue
            node, graph = value.producer(), value.graph
            if value.is_initializer() and not value.is_graph_input() and graph is not None:
                graph.initializers.pop(value.name or "")
            elif node is not None and node.graph is not None and _is_unused(node):
                self._removed.add(node.op_identifier())
                waiting += _released(node)
                node.graph.remove(node, safe=True)

    def finish(self) -> None:
        """Remove functions that only removed nodes have called, and imports of their domains."""
        gone = set(self._removed)
        while unused := (gone & {*self.model.functions}) - _called(self.model):
            for identifier in unused:
                function = self.model.functions.pop(identifier)
                gone |= {node.op_identifier() for node in function.all_nodes()}
        list(drop_imports(self.model, {domain for domain, _, _ in gone}))


def domains(model: ir.Model) -> set[str]:
    """Return the domains of a model's nodes."""
    return {node.domain for scope in scopes(model) for node in scope.graph}


def drop_imports(model: ir.Model, before: Collection[str]) -> Iterator[str]:
    """Remove the imports of domains that were used ``before`` and no longer are; yield each one."""
    used = domains(model) | {function.domain for function in model.functions.values()}
    for domain in sorted({*before} - used - {"", "ai.onnx"}):
        for imports in (model.opset_imports, *(f.opset_imports for f in model.functions.values())):
            if imports.pop(domain, None) is not None:
                yield domain


def _released(node: ir.Node) -> list[ir.Value]:
    """Return the values that ``node`` and its bodies take; the bodies no longer use them.

    onnx_ir counts a use by a node in a body also after the node with the body was removed.
    """
    values = [value for value in node.inputs if value is not None]
    for body in bodies(node):
        body.outputs.clear()
        for inner in body:
            values += _released(inner)
            release_inputs(inner)
    return values


def _is_unused(node: ir.Node) -> bool:
    return not any(output.uses() or output.is_graph_output() for output in node.outputs)


def _called(model: ir.Model) -> set[ir.OperatorIdentifier]:
    return {node.op_identifier() for scope in scopes(model) for node in scope.graph}
