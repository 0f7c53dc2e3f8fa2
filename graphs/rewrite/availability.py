"""Availability of an activation's forms at an opset: our operator, the formula, ONNX's operator."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from gatewave.graphs.ops.functions import body_of
from gatewave.graphs.ops.graph_ops import GraphOps
from gatewave.graphs.recognition.kinds import Kind
from gatewave.models import DType
from gatewave.models.catalogue import OPERATORS

BROADCASTING = 7
"""First opset in which a scalar may be an operand of any other tensor.

Before, `Add`, `Mul` and others broadcast only with the attributes ``broadcast`` and ``axis``.
"""

EXTREMES = frozenset({"Max", "Min"})
BROADCASTING_EXTREMES = 8
"""First opset in which `Max` and `Min` broadcast their operands, too."""

WITH_BFLOAT16 = 13
"""First opset in which `Cast`, `Add`, `Mul` and others take bfloat16."""

_TYPE_NAMES = {
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.FLOAT: "float",
    ir.DataType.DOUBLE: "double",
}


@functools.cache
def missing(op_type: str, dtype: DType, opset: int) -> str:
    """Return the operators that our operator's body needs and the opset lacks, in words."""
    body = body_of(*OPERATORS[op_type], "value", dtype, opset)
    return _missing({node.op_type for node in body}, dtype, opset)


def missing_for_formula(kind: Kind, dtype: DType, opset: int) -> str:
    """Return the operators that the formula needs and the opset lacks, in words."""
    op = GraphOps(dtype, opset)
    kind.formula(op, *(ir.Value(name=name) for name in kind.inputs), **kind.reals)
    return _missing({node.op_type for node in op.nodes}, dtype, opset)


def has_standard(kind: Kind, dtype: ir.DataType | None, opset: int) -> bool:
    """Return true if ONNX has an operator for ``kind`` in that opset and element type."""
    if kind.standard is None or opset < kind.standard.opset:
        return False
    schema = onnx.defs.get_schema(kind.standard.op_type, opset, "")
    allowed = {name for c in schema.type_constraints for name in c.allowed_type_strs}
    return dtype is None or f"tensor({_TYPE_NAMES.get(dtype, '?')})" in allowed


def rounded(reals: Mapping[str, float], dtype: ir.DataType | None) -> str:
    """Return the real parameters of a float64 operator that an attribute would round.

    ONNX's attributes of type FLOAT are float32, whatever the tensors' element type is. Narrower
    tensors are computed with a float32 parameter anyway.
    """
    if dtype != ir.DataType.DOUBLE:
        return ""
    with np.errstate(over="ignore"):
        return ", ".join(
            f"{n}={real!r}" for n, real in reals.items() if float(np.float32(real)) != real
        )


def _missing(op_types: set[str], dtype: DType, opset: int) -> str:
    """Return the lacking operators, and the opset that has them, in words; empty without any."""
    if opset < BROADCASTING:
        return f"needs opset {BROADCASTING}, where scalars may be operands"
    if dtype == "bfloat16" and opset < WITH_BFLOAT16:
        return f"needs opset {WITH_BFLOAT16}, which has bfloat16"
    lacked = [op_type for op_type in sorted(op_types) if not onnx.defs.has(op_type, opset, "")]
    if not lacked and opset < BROADCASTING_EXTREMES and op_types & EXTREMES:
        return f"needs opset {BROADCASTING_EXTREMES}, where scalars may be operands of Max and Min"
    if not lacked:
        return ""
    return f"needs opset {max(map(_first_opset, lacked))}, which has {', '.join(lacked)}"


def _first_opset(op_type: str) -> int:
    return min(
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == op_type and schema.domain == ""
    )
