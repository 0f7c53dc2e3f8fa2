"""Operators that are a gated unit by their names."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from gatewave.graphs.analysis.constants import constant, is_parameter
from gatewave.graphs.analysis.node_functions import CONTRIB
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.recognition.kinds import KINDS, Kind

Named = tuple[Kind, dict[str, float], dict[str, ir.Value]]
"""A kind, its real parameters, and those of them that are inputs of the model."""

_NAMED: Mapping[tuple[str, str], Kind] = {
    (DOMAIN, kind.operator.op_type): kind
    for kind in KINDS.values()
    if kind.operator is not None and len(kind.inputs) > 1
} | {("", "SwiGLU"): KINDS["swiglu-linear"]}


def named(node: ir.Node) -> Named | None:
    """Identify ``node`` by its name as one of ours, of ONNX's or of ONNX Runtime's."""
    if (node.domain, node.op_type) == (CONTRIB, "SwiGLU"):
        return _contributed(node)
    kind = _NAMED.get((node.domain, node.op_type))
    return None if kind is None else _with_reals(node, kind)


def _contributed(node: ir.Node) -> Named | None:
    """ONNX Runtime's own SwiGLU without clamp, shift and rounding, and with separate halves."""
    given = {a.name: a.value for a in node.attributes.values() if not a.is_ref()}
    if len(given) < len(node.attributes) or len(node.inputs) != 2:  # noqa: PLR2004
        return None
    # These change the formula: a shift of the linear half, a clamp, and a rounding in between.
    if given.get("activation_beta") or given.get("limit", 0) > 0 or given.get("round_activation"):
        return None
    alpha = given.get("activation_alpha", 1.0)
    return KINDS["swiglu-linear"], {"alpha": alpha}, {}


def _with_reals(node: ir.Node, kind: Kind) -> Named | None:
    """Identify a node whose real parameters are attributes or scalar inputs."""
    reals, parameters = dict(kind.reals), {}
    for name, value in zip(kind.reals, node.inputs[len(kind.inputs) :], strict=False):
        number = constant(value)
        if number is not None:
            reals[name] = number.number
        elif value is not None and is_parameter(value) and value.const_value is not None:
            reals[name] = float(value.const_value.numpy())
            parameters[name] = value
        elif value is not None:
            return None
    for name in {*kind.reals} & {*node.attributes}:
        attribute = node.attributes[name]
        if attribute.is_ref() or attribute.type != ir.AttributeType.FLOAT:
            return None
        reals[name] = attribute.as_float()
    return kind, reals, parameters
