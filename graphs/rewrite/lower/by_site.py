"""Replacement of whole activations whose operators a target lacks by their own formula.

A GELU of `Erf` in float64 loses its tail if only `Erf` is written in other operators: 1 is added to
a number near -1. The formula of the whole activation has no such cancellation.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.ops.graph_ops import GraphOps
from gatewave.graphs.recognition.kinds import KINDS
from gatewave.graphs.recognition.sites import Site, survey
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.rewrite.replacement import Replacement
from gatewave.graphs.targets import Target

WIDE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Types of replaced activations; 16-bit floats are computed node by node, rounding alike."""


def rewrite(model: ir.Model, _: Target, legality: Legality) -> list[Change]:
    """Replace activations of several nodes of which the target does not run some."""
    refused = set(_refused(model, legality))
    if not refused:
        return []
    replacement = Replacement(model)
    for site in survey(model).sites:
        if len(site.nodes) > 1 and refused.intersection(site.nodes) and _runs(site, legality):
            replacement.by_formula(site, KINDS[site.kind], site.reals)
    return replacement.finish()


def _refused(model: ir.Model, legality: Legality) -> Iterator[ir.Node]:
    for scope in scopes(model):
        if not scope.name.startswith("function "):
            for node in scope.graph:
                kind = legality.dtype_of(node)
                if kind in WIDE and legality.refusal(node, kind):
                    yield node


def _runs(site: Site, legality: Legality) -> bool:
    """Return true if the target runs every operator of the formula at the site."""
    if site.scope.name.startswith("function ") or site.dtype not in WIDE:
        return False
    kind = KINDS[site.kind]
    op = GraphOps(NAMES[site.dtype], site.scope.opsets.get("", 1))
    kind.formula(op, *(ir.Value(name=name) for name in kind.inputs), **site.reals)
    return not any(legality.refusal(node, site.dtype) for node in op.nodes)
