"""Instrumentation of the copy of a model that is run: cut nodes out, add outputs, scale values.

The process that runs the model does this, so that the module imports `onnx` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

OUT = "//out"
"""Suffix of an output of a cut: the plain name belongs to the input."""

FACTOR = "//factor"
"""Suffix of the input by which a value is multiplied."""

RAW = "//raw"


@dataclass(frozen=True)
class Cut:
    """Subset of the main graph's nodes, run as a separate model.

    Attributes:
        nodes: Names of the nodes' first outputs.
        inputs: Values that are fed, with their element types, even if the nodes compute them.
        outputs: The values that are returned, named with the suffix `OUT`.
    """

    nodes: Sequence[str]
    inputs: Mapping[str, int]
    outputs: Sequence[str]


def cut(model: onnx.ModelProto, wanted: Cut) -> None:
    """Reduce ``model``, in place, to the nodes that are ``wanted``."""
    graph, names = model.graph, {*wanted.nodes}
    kept = [node for node in graph.node if next(filter(None, node.output), "") in names]
    for node in kept:
        for index, name in enumerate(node.output):
            if name in wanted.outputs:
                node.output[index] = name + OUT
    used = {name for node in kept for name in _taken(node)} - {*wanted.inputs}
    _keep(graph.node, kept)
    _keep(graph.initializer, [one for one in graph.initializer if one.name in used])
    _keep(graph.sparse_initializer, [o for o in graph.sparse_initializer if o.values.name in used])
    del graph.input[:], graph.output[:], graph.value_info[:], graph.quantization_annotation[:]
    graph.input.extend(_port(name, kind) for name, kind in wanted.inputs.items())
    extend(model, [name + OUT for name in wanted.outputs])


def extend(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Make these values outputs of ``model`` as well."""
    there = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in there)


def multiply(model: onnx.ModelProto, kinds: Mapping[str, int]) -> None:
    """Multiply values by factors, which are further inputs, each of the element type given."""
    new = []
    for node in model.graph.node:
        new.append(node)
        for index, name in enumerate(node.output):
            if name in kinds:
                node.output[index] = name + RAW
                new.append(helper.make_node("Mul", [name + RAW, name + FACTOR], [name]))
    _keep(model.graph.node, new)
    model.graph.input.extend(
        helper.make_tensor_value_info(name + FACTOR, kind, []) for name, kind in kinds.items()
    )


def _port(name: str, kind: int) -> onnx.ValueInfoProto:
    """Return an input of open shape: parts are run in several shapes."""
    return helper.make_tensor_value_info(name, kind, None)


def _keep(field: Any, kept: Sequence[Any]) -> None:
    copies = [type(one).FromString(one.SerializeToString()) for one in kept]
    del field[:]
    field.extend(copies)


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """Yield all names that the node and its bodies take; some may be local to the bodies."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from _taken(inner)
