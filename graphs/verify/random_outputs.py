"""Outputs that may change from run to run because they depend on a random operator.

Two models that are compared draw the same numbers, where their operators can be replaced: see
`random_numbers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from gatewave.graphs.analysis import element_types
from gatewave.graphs.analysis.element_types import bodies, operands
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.verify import random_replacement
from gatewave.graphs.verify.random_replacement import DRAWN, TRAINING, Fixed

RANDOM = frozenset(DRAWN)
"""Operators that always draw random numbers; `Dropout` does so in training mode only."""


@dataclass(frozen=True)
class Draws:
    """The random operators of two models that are compared.

    Attributes:
        fixed: Settings of their replacement; ``None`` if neither model has one.
        replaced: The names of the first outputs of the replaced operators.
        notes: Notes for the report.
    """

    fixed: Fixed | None = None
    replaced: Collection[str] = frozenset()
    notes: Sequence[str] = ()


def draws(models: Sequence[ir.Model], seed: int) -> Draws:
    """Return the random operators of ``models``, and the settings that make their numbers equal."""
    found = [[(s, n) for s in scopes(model) for n in s.graph if _may_draw(n)] for model in models]
    kinds = [_kinds(model, nodes) for model, nodes in zip(models, found, strict=True)]
    protos = [
        [
            (scope, proto)
            for scope, node in nodes
            if random_replacement.is_random(proto := _proto(node))
        ]
        for nodes in found
    ]
    if not any(protos):
        return Draws()
    types = {name: kind for each in kinds for name, kind in each.items()}
    names, others = ({node.output[0] for _, node in nodes} for nodes in protos)
    fixed = Fixed(seed, alike=names != others, types=types)
    replaced = {
        node.output[0]
        for nodes in protos
        for scope, node in nodes
        if random_replacement.can_fix(node, scope.opsets.get("", 1), types)
    }
    return Draws(fixed, replaced, [_said(protos[0] or protos[1], seed)] if replaced else [])


def _may_draw(node: ir.Node) -> bool:
    return node.op_type in RANDOM or node.op_type == "Dropout"


def _proto(node: ir.Node) -> onnx.NodeProto:
    return ir.to_proto(node)


def _kinds(model: ir.Model, nodes: Sequence[tuple[Scope, ir.Node]]) -> dict[str, int]:
    """Return the element types of the outputs of ``nodes``, by name, if an old opset needs them."""
    if all(scope.opsets.get("", 1) >= random_replacement.WITH_CAST_LIKE for scope, _ in nodes):
        return {}
    types = element_types.of_model(model)
    outputs = (node.outputs[0] for _, node in nodes)
    return {v.name: types[v].value for v in outputs if v.name and v in types}


def _said(nodes: Sequence[tuple[Scope, onnx.NodeProto]], seed: int) -> str:
    counts = Counter(node.op_type for _, node in nodes)
    words = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"random operators ({words}) draw the same numbers in both models, with seed {seed}"


def outputs(model: ir.Model, replaced: Collection[str] = ()) -> set[str]:
    """Return the names of the outputs of ``model`` that depend on a random operator.

    Operators whose first output is named in ``replaced`` do not count.
    """
    reached: set[ir.Value] = set()
    for node in model.graph:
        if is_random(node, model, replaced) or reached & set(operands(node)):
            reached |= set(node.outputs)
    return {output.name or "" for output in model.graph.outputs if output in reached}


def is_random(
    node: ir.Node, model: ir.Model, replaced: Collection[str] = (), depth: int = 16
) -> bool:
    """Return true if ``node``, its bodies or its function draw random numbers."""
    if _may_draw(node) and node.outputs[0].name in replaced:
        return False
    if node.op_type in RANDOM:
        return True
    if node.op_type == "Dropout":
        return len(node.inputs) > TRAINING and node.inputs[TRAINING] is not None
    function = model.functions.get(node.op_identifier())
    inside = [*bodies(node), *([function] if function is not None else [])]
    return depth > 0 and any(
        is_random(n, model, replaced, depth - 1) for body in inside for n in body
    )
