"""Operators of the domain ``ai.gatewave`` in an ONNX file.

The nodes are read because the metadata of an artifact can differ from its graph.
"""

from __future__ import annotations

from gatewave.service.codecs.wire import WireReader
from gatewave.service.onnx.fields import (
    GRAPH_NODES,
    MODEL_GRAPH,
    NODE_DOMAIN,
    NODE_OPERATOR,
)

DOMAIN = b"ai.gatewave"


def operators(model: bytes) -> tuple[frozenset[str], int]:
    """Return the operators of our domain in the main graph, and the number of its nodes.

    Args:
        model: An ONNX file.

    Raises:
        MalformedError: It is not an ONNX file.
    """
    reader = WireReader(model)
    nodes = [
        dict(reader.fields(node))
        for number, graph in reader.fields((0, len(model)))
        if number == MODEL_GRAPH
        for inner, node in reader.fields(graph)
        if inner == GRAPH_NODES
    ]
    none = (0, 0)
    ours = frozenset(
        reader.bytes(node.get(NODE_OPERATOR, none)).decode(errors="replace")
        for node in nodes
        if reader.bytes(node.get(NODE_DOMAIN, none)) == DOMAIN
    )
    return ours, len(nodes)
