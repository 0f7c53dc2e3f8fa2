"""Queries on ONNX's schemas: versions of operators, and the element types that they allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import onnx_ir as ir

TYPE_NAMES: Mapping[ir.DataType, str] = {
    kind: name
    for kind in ir.DataType
    if (name := onnx.TensorProto.DataType.Name(kind.value).lower()) != "undefined"
}
"""Names of the element types in schemas."""


def since(op_type: str, opset: int) -> int | None:
    """Return the operator's version in ``opset``; None if it does not exist there."""
    try:
        return int(onnx.defs.get_schema(op_type, opset, "").since_version)
    except onnx.defs.SchemaError:
        return None


def takes_tensors(node: ir.Node, opset: int) -> bool:
    """Return true if ``node`` takes and gives tensors only, not sequences or optionals."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return True  # an operator of a domain that onnx has no schemas for
    ports = [*schema.inputs, *schema.outputs]
    return all(kind.startswith("tensor(") for port in ports for kind in port.types)


def disallowed(
    node: ir.Node, opset: int, dtype_of: Callable[[ir.Value], ir.DataType | None]
) -> ir.DataType | None:
    """Return an input's element type that ``opset`` does not allow; None if all are allowed."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    for index, value in enumerate(node.inputs):
        kind = None if value is None else dtype_of(value)
        if kind is None or kind not in TYPE_NAMES or not schema.inputs:
            continue
        port = schema.inputs[min(index, len(schema.inputs) - 1)]
        name = f"tensor({TYPE_NAMES[kind]})"
        if name not in port.types and any(t.startswith("tensor(") for t in port.types):
            return kind
    return None


def disallowed_container(node: ir.Node, opset: int) -> str:
    """Return why the operator at ``opset`` does not allow the node's sequences or optionals."""
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    allowed = {kind for port in (*schema.inputs, *schema.outputs) for kind in port.types}
    for value in (*node.inputs, *node.outputs):
        if value is not None and isinstance(value.type, ir.SequenceType | ir.OptionalType):
            kind = "seq" if isinstance(value.type, ir.SequenceType) else "optional"
            if not any(name.startswith(kind) for name in allowed):
                return f"it takes no {kind} in opset {opset}"
    return ""


def default(op_type: str, opset: int, name: str) -> Any:
    """Return the default of an attribute; None without one."""
    attribute = onnx.defs.get_schema(op_type, opset, "").attributes.get(name)
    if attribute is None or not attribute.default_value.type:
        return None
    return onnx.helper.get_attribute_value(attribute.default_value)
