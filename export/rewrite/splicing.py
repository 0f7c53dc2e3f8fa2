"""Nodes put in the place of others; the values that they make keep name, type, shape, metadata."""

from __future__ import annotations

from collections.abc import Sequence

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
        becomes.doc_string = was.doc_string
    for node in new:
        node.metadata_props.update(old[-1].metadata_props)
    ir.convenience.replace_nodes_and_values(graph, old[-1], old, new, before, after)
