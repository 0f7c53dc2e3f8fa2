"""The functions of our operators, inside a model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir

from export.graph import body_of
from export.graph_ops import ONNX_TYPES
from models import ACTIVATIONS, DType, Operator

DTYPES: Mapping[ir.DataType, DType] = {kind: name for name, kind in ONNX_TYPES.items()}

RECORDS = {
    operator.op_type: (activation, operator)
    for activation in ACTIVATIONS.values()
    for operator in activation.operators
}

WITH_FUNCTIONS = 8
WITH_OVERLOADS = 10
"""The versions of the file format that brought them."""

BROADCASTING = 7
"""From this opset on a scalar may be an operand of any other tensor."""

WITH_BFLOAT16 = 13


def ensure(model: ir.Model, op_type: str, dtype: DType, opset: int) -> ir.Function:
    """The function of our operator in ``model``, which gets it if it has none that does the same.

    One of another dtype, or of another version of ours, has another body: where there is one, the
    new one is an overload.
    """
    new = body_of(*RECORDS[op_type], "value", dtype, opset)
    overloads = itertools.chain(["", dtype], (f"{dtype}_{n}" for n in itertools.count(1)))
    for overload in overloads:
        new.overload = overload
        found = model.functions.setdefault(new.identifier(), new)
        if found is new or _same(found, new):
            break
    return found


def missing(operator: Operator, dtype: DType, opset: int) -> str:
    """What the opset lacks that the body of our operator needs; empty if nothing."""
    if opset < BROADCASTING:
        return f"needs opset {BROADCASTING}, where scalars may be operands"
    if dtype == "bfloat16" and opset < WITH_BFLOAT16:
        return f"needs opset {WITH_BFLOAT16}, which has bfloat16"
    body = body_of(*RECORDS[operator.op_type], "value", dtype, opset)
    return lacking({node.op_type for node in body}, opset)


def lacking(op_types: set[str], opset: int) -> str:
    """Which of the operators the opset lacks, in words; empty if none."""
    first = {
        op_type: min(
            schema.since_version
            for schema in onnx.defs.get_all_schemas_with_history()
            if schema.name == op_type and schema.domain == ""
        )
        for op_type in sorted(op_types)
        if not onnx.defs.has(op_type, opset, "")
    }
    if not first:
        return ""
    return f"needs opset {max(first.values())}, which has {', '.join(first)}"


def _same(one: ir.Function, other: ir.Function) -> bool:
    """Whether two functions do the same: their nodes are, the names of values and all."""
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
