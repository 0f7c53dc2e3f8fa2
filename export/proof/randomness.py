"""Outputs that may be others from run to run, as a random operator feeds them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from export.model_files.element_types import bodies

RANDOM = frozenset(
    {
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Bernoulli", "Multinomial"),
    }
)

TRAINING = 2
"""Which input of `Dropout` says that it drops anything."""


def outputs(model: ir.Model) -> set[str]:
    """The names of the outputs of ``model`` that a random operator reaches."""
    reached: set[ir.Value] = set()
    for node in model.graph:
        if _is_random(node, model) or reached & set(_taken(node)):
            reached |= set(node.outputs)
    return {output.name or "" for output in model.graph.outputs if output in reached}


def _is_random(node: ir.Node, model: ir.Model, depth: int = 16) -> bool:
    """Whether ``node`` draws numbers, or something in its bodies or its function does."""
    if node.op_type in RANDOM:
        return True
    if node.op_type == "Dropout":
        return len(node.inputs) > TRAINING and node.inputs[TRAINING] is not None
    function = model.functions.get(node.op_identifier())
    inside = [*bodies(node), *([function] if function is not None else [])]
    return depth > 0 and any(_is_random(n, model, depth - 1) for body in inside for n in body)


def _taken(node: ir.Node) -> Iterator[ir.Value]:
    """The values that ``node`` takes, its bodies included."""
    yield from (value for value in node.inputs if value is not None)
    for body in bodies(node):
        yield from body.outputs
        for inner in body:
            yield from _taken(inner)
