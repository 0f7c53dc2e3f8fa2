"""Fusion of activations: many nodes become one operator, ours with its function, or ONNX's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import onnx_ir as ir

from gatewave.graphs.analysis.constants import plain
from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.analysis.shapes import Shapes
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, compute_dtype
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.recognition.kinds import KINDS, Kind, called
from gatewave.graphs.recognition.sites import Refusal, Site, survey
from gatewave.graphs.rewrite import availability
from gatewave.graphs.rewrite.outcome import Outcome, Skipped
from gatewave.graphs.rewrite.replacement import Replacement

FusedForm = Literal["gatewave", "standard"]

FUSED: dict[FusedForm, tuple[str, ...]] = {
    "gatewave": tuple(
        name for name, kind in KINDS.items() if kind.operator is not None and name != "sigmoid"
    ),
    "standard": ("swiglu-linear", "swish"),
}
"""Kinds that are fused by default: those that several nodes make up."""


CONVOLUTIONS = ("Conv", "ConvTranspose")
NO_OPERATOR = "there is no operator of ours for it"
LEFT = "after a convolution ONNX Runtime's own fusion is faster; --kind swish fuses it"


def fuse(
    model: ir.Model, *, to: FusedForm = "gatewave", kinds: Collection[str] | None = None
) -> Outcome:
    """Replace activations of ``model``, in place, by single operators.

    Args:
        model: Model; changed in place.
        to: ``gatewave``: our operators; each has its body in the model, so that it runs anywhere.
            ``standard``: ONNX's, where the model's opset has them.
        kinds: Kinds to fuse; ``silu``, say, is Swish with an alpha of 1 only. `FUSED` has the
            default, which leaves fusions that ONNX Runtime does better: see `_left_to_the_runtime`.

    Returns:
        The changes, and the skipped sites with reasons.

    Raises:
        ValueError: A kind is unknown.
    """
    wanted = [called(name) for name in (FUSED[to] if kinds is None else kinds)]
    found = survey(model, _refusal(to, wanted, by_default=kinds is None))
    replacement = Replacement(model)
    for site in found.sites:
        kind = KINDS[site.kind]
        if to == "gatewave":
            replacement.by_ours(site, kind, site.reals, site.parameters)
        else:
            replacement.by_standard(site, kind, site.reals)
    return Outcome(replacement.finish(), [Skipped.of(miss) for miss in found.near_misses])


def _refusal(
    to: FusedForm, wanted: Collection[tuple[Kind, Mapping[str, float]]], *, by_default: bool
) -> Refusal:
    why_not = {"gatewave": _not_ours, "standard": _not_standard}[to]

    def refusal(site: Site, shapes: Shapes) -> str | None:
        asked = [reals for kind, reals in wanted if kind.name == site.kind]
        if not asked:
            return _unasked(site, to) if by_default else ""
        unwanted = [unlike(site, reals) for reals in asked]
        reason = (
            (None if None in unwanted else unwanted[0])
            or site.doubt
            or unequal(site, shapes)
            or why_not(site)
        )
        if reason is None and by_default and to == "gatewave":
            return _left_to_the_runtime(site)
        return reason

    return refusal


def _unasked(site: Site, to: FusedForm) -> str:
    """Return why a decomposed activation is not fused by default; empty for a single node."""
    lacking = to == "gatewave" and KINDS[site.kind].operator is None
    return NO_OPERATOR if lacking and len(site.nodes) > 1 else ""


def _left_to_the_runtime(site: Site) -> str | None:
    """Return the reason to leave a float32 Swish of a convolution: ONNX Runtime fuses it itself.

    ONNX Runtime keeps tensors between convolutions in a blocked memory layout. An operator of
    another domain ends that layout, and the tensor is copied twice: nudenet with its 57 Swish
    fused takes 1.1 times as long (docs/graphs.md).
    """
    makers = {value.producer() for value in site.inputs}
    convolved = any(node is not None and node.op_type in CONVOLUTIONS for node in makers)
    if site.kind == "swish" and convolved and site.dtype == ir.DataType.FLOAT:
        return LEFT
    return None


def unlike(site: Site, asked: Mapping[str, float]) -> str | None:
    """Return the mismatch of the real parameters and the requested ones; None without one."""
    reals = {name: plain(real) for name, real in site.reals.items()}
    return f"its parameters are {reals}, not {dict(asked)}" if asked and reals != asked else None


def unequal(site: Site, shapes: Shapes) -> str | None:
    """Return the reason to leave a unit whose inputs may broadcast; None if the shapes are equal.

    Our operators and ONNX's SwiGLU take equal shapes; a product of nodes may broadcast.
    """
    first, *others = site.inputs
    for other in others:
        if not shapes.equal(first, other):
            given = " and ".join(f"{v.name} {shapes.shape(v) or '[?]'}" for v in (first, other))
            return f"the shapes are not known to be equal: {given}"
    return None


def _not_ours(site: Site) -> str | None:
    kind = KINDS[site.kind]
    if site.root.domain == DOMAIN and site.written == "function":
        return ""  # already our operator
    if kind.operator is None:
        return NO_OPERATOR
    if site.dtype is None or site.dtype not in NAMES:
        return "its element type is not known"
    dtype = NAMES[site.dtype]
    wide = ONNX_TYPES[compute_dtype(dtype)]
    for name, value in site.parameters.items():
        if value.dtype != wide:
            return f"its {name} is an input of type {value.dtype}; the operator takes {wide}"
    opset = site.scope.opset
    lack = availability.missing(kind.operator.op_type, dtype, opset)
    return f"{lack}; the graph's is {opset}" if lack else None


def _not_standard(site: Site) -> str | None:
    standard = KINDS[site.kind].standard
    if site.written == "standard":
        return ""  # already ONNX's operator
    if standard is None:
        return "ONNX has no operator for it"
    if site.parameters:
        return f"its {', '.join(site.parameters)} is an input; the operator's is an attribute"
    opset = site.scope.opset
    if opset < standard.opset:
        return f"{standard.op_type} needs opset {standard.opset}; the graph's is {opset}"
    if not availability.has_standard(KINDS[site.kind], site.dtype, opset):
        return f"{standard.op_type} does not take {site.dtype}"
    rounded = availability.rounded(site.reals, site.dtype)
    return f"{standard.op_type} would round {rounded} to float32" if rounded else None
