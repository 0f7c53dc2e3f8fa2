"""Replacement of whole activations by their formula, if a target lacks one of their operators.

If only the lacking operator were written in others, precision could be lost: a GELU of `Erf` adds 1
to ``erf(x/√2)``, and an `Erf` of float64 written in other operators leaves rounding errors of 1e-16
next to -1, where the sum should be 1e-17 or less. The formula of the whole GELU has no such
cancellation.
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
"""Types of replaced activations.

16-bit floats are lowered node by node: each node rounds to 16 bits, as the model does, and the
formula of the whole activation would round once.
"""


def replace_activations(model: ir.Model, _: Target, legality: Legality) -> list[Change]:
    """Replace activations of several nodes of which the target does not run some.

    Recognition takes most of the time, so it runs only if the target refuses a node.
    """
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
        for node in () if scope.in_function else scope.graph:
            dtype = legality.dtype_of(node)
            if dtype in WIDE and legality.refusal(node, dtype):
                yield node


def _runs(site: Site, legality: Legality) -> bool:
    """Return true if the target runs every operator of the formula at the site."""
    if site.scope.in_function or site.dtype not in WIDE:
        return False
    kind = KINDS[site.kind]
    op = GraphOps(NAMES[site.dtype], site.scope.opset)
    kind.formula(op, *(ir.Value(name=name) for name in kind.inputs), **site.reals)
    return not any(legality.refusal(node, site.dtype) for node in op.nodes)
