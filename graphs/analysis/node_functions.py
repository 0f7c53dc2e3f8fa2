"""Meaning of a node as a function of numbers, element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from gatewave.graphs.analysis.constants import Constant, roundoff
from gatewave.models import Operator

CONTRIB = "com.microsoft"

BIASED = ("FastGelu", "BiasGelu")
"""Contributed operators of ``x + bias``."""


@dataclass(frozen=True, slots=True)
class NodeFunction:
    """Elementwise function that a node computes.

    Attributes:
        compute: Takes an ``op``, further known values (such as numbers in place of constants
            inside a function) and the operands.
        size: The number of operators.
        constants: The numbers inside.
        casts: The types to which a function casts inside.
    """

    compute: Callable[..., Any]
    size: int = 1
    constants: tuple[Constant, ...] = ()
    casts: frozenset[ir.DataType | None] = frozenset()


def ours(operator: Operator, attributes: Mapping[str, Any] | None) -> NodeFunction | None:
    """Identify a node of ours by name; real parameters are scalar inputs or attributes."""
    if attributes is None or not {*attributes} <= {*operator.reals}:
        return None
    return NodeFunction(lambda op, _, *operands: operator.value(op, *operands, **attributes))


def is_biased(node: ir.Node) -> bool:
    """Return true for a contributed operator that first adds a tensor to its input."""
    return (
        node.domain == CONTRIB and node.op_type in BIASED and len(operands_of(node)) == 2  # noqa: PLR2004
    )


def operands_of(node: ir.Node) -> tuple[ir.Value, ...]:
    return tuple(value for value in node.inputs if value is not None)


def attributes_of(node: ir.Node) -> dict[str, Any] | None:
    """Return the attributes as keyword arguments; None if a call of the function gives one."""
    found: dict[str, Any] = {}
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        found[name] = attribute.value
    return found


def numbers_of(node: ir.Node) -> list[Constant]:
    """Return the attributes that are numbers, as float32 has rounded them."""
    values = [a.value for a in node.attributes.values() if a.type == ir.AttributeType.FLOAT]
    return [Constant(v, roundoff(v, ir.DataType.FLOAT)) for v in values if v is not None]
