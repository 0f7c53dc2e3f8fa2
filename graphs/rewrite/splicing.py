"""Nodes put in the place of others; the values that they make keep name, type, shape, metadata."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir


def splice(
    graph: ir.Graph | ir.Function,
    old: Sequence[ir.Node],
    new: Sequence[ir.Node],
    outputs: Sequence[tuple[ir.Value, ir.Value]],
) -> None:
    """Put ``new`` where the last of ``old`` stands; ``outputs`` are pairs, the old value first."""
    before = [pair[0] for pair in outputs]
    after = [pair[1] for pair in outputs]
    for was, becomes in outputs:
        becomes.metadata_props.update(was.metadata_props)
        becomes.meta.update(was.meta)  # with the annotation of its quantisation
        becomes.doc_string = was.doc_string
    for node in new:
        node.metadata_props.update(old[-1].metadata_props)
        node.doc_string = old[-1].doc_string
    ir.convenience.replace_nodes_and_values(graph, old[-1], old, new, before, after)


def needed(nodes: Sequence[ir.Node], results: Sequence[ir.Value]) -> list[ir.Node]:
    """Return the nodes that ``results`` depend on, in the order of ``nodes``."""
    wanted = set(results)
    kept: list[ir.Node] = []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            wanted |= {value for value in node.inputs if value is not None}
            kept.append(node)
    return kept[::-1]


def sweep(graph: ir.Graph | ir.Function, values: Iterable[ir.Value | None]) -> None:
    """Remove the nodes that made ``values``, and those before them, if they are unused now."""
    for value in values:
        node = value.producer() if value is not None else None
        if node is not None and node.graph is not None and _is_idle(node, graph):
            before = list(node.inputs)
            node.graph.remove(node, safe=True)
            sweep(graph, before)


def _is_idle(node: ir.Node, graph: ir.Graph | ir.Function) -> bool:
    within = graph.graph if isinstance(graph, ir.Function) else graph
    return node.graph is within and not any(
        output.uses() or output.is_graph_output() for output in node.outputs
    )
