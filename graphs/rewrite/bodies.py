"""The functions of our operators, inside a model."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from gatewave.graphs.ops.functions import body_of
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, GraphOps
from gatewave.graphs.recognition.kinds import Kind
from gatewave.models import DType
from gatewave.models.catalogue import OPERATORS

DTYPES: Mapping[ir.DataType, DType] = {kind: name for name, kind in ONNX_TYPES.items()}

WITH_FUNCTIONS = 8
WITH_OVERLOADS = 10
"""The versions of the file format that brought them."""

BROADCASTING = 7
"""First opset in which a scalar may be an operand of any other tensor."""

EXTREMES = frozenset({"Max", "Min"})
BROADCASTING_EXTREMES = 8
"""First opset in which `Max` and `Min` broadcast their operands, too."""

WITH_BFLOAT16 = 13


def ensure(model: ir.Model, op_type: str, dtype: DType, opset: int) -> ir.Function:
    """The function of our operator in ``model``, which gets it if it has none that does the same.

    One of another dtype, or of another version of ours, has another body: where there is one, the
    new one is an overload.
    """
    new = body_of(*OPERATORS[op_type], "value", dtype, opset)
    overloads = itertools.chain(["", dtype], (f"{dtype}_{n}" for n in itertools.count(1)))
    for overload in overloads:
        new.overload = overload
        found = model.functions.setdefault(new.identifier(), new)
        if found is new:
            _put_first(model, new)
        if found is new or _same(found, new):
            break
    return found


def _put_first(model: ir.Model, function: ir.Function) -> None:
    """Functions of the model may call it, and the reference evaluator reads them in order."""
    others = {**model.functions}
    model.functions.clear()
    model.functions.update({function.identifier(): function, **others})


@functools.cache
def missing(op_type: str, dtype: DType, opset: int) -> str:
    """Return the operators that our operator's body needs and the opset lacks."""
    body = body_of(*OPERATORS[op_type], "value", dtype, opset)
    return lacking({node.op_type for node in body}, dtype, opset)


def missing_for_formula(kind: Kind, dtype: DType, opset: int) -> str:
    """Return the operators that the formula needs and the opset lacks."""
    op = GraphOps(dtype, opset)
    kind.formula(op, *(ir.Value(name=name) for name in kind.inputs), **kind.reals)
    return lacking({node.op_type for node in op.nodes}, dtype, opset)


def takes(kind: Kind, dtype: ir.DataType | None, opset: int) -> bool:
    """Return true if ONNX has an operator for ``kind`` in that opset and element type."""
    if kind.standard is None or opset < kind.standard.opset:
        return False
    schema = onnx.defs.get_schema(kind.standard.op_type, opset, "")
    allowed = {name for c in schema.type_constraints for name in c.allowed_type_strs}
    return dtype is None or f"tensor({_TYPE_NAMES.get(dtype, '?')})" in allowed


_TYPE_NAMES = {
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.FLOAT: "float",
    ir.DataType.DOUBLE: "double",
}


def rounded(reals: Mapping[str, float], dtype: ir.DataType | None) -> str:
    """Return the real parameters of a float64 operator that an attribute cannot hold.

    It is a float32, as are the numbers that float32 operators compute with.
    """
    if dtype != ir.DataType.DOUBLE:
        return ""
    with np.errstate(over="ignore"):
        return ", ".join(
            f"{n}={real!r}" for n, real in reals.items() if float(np.float32(real)) != real
        )


def lacking(op_types: set[str], dtype: DType, opset: int) -> str:
    """Return the operators that the opset lacks, in words."""
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


def _same(one: ir.Function, other: ir.Function) -> bool:
    """Return true if two functions have the same nodes and value names."""
    return bool(_content(one) == _content(other))


def _content(function: ir.Function) -> Any:
    proto = ir.to_proto(function)
    nodes = [
        (node.op_type, tuple(node.input), tuple(node.output), [_plain(a) for a in node.attribute])
        for node in proto.node
    ]
    return list(proto.input), list(proto.output), nodes


def _plain(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(value)
        value = (array.dtype.name, array.tobytes())
    return attribute.name, value
