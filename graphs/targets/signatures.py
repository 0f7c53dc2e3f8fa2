"""Element types of a node, by the type variables of its operator's schema.

``MatMulInteger`` of ``uint8`` and ``int8`` is ``("uint8", "int8", "-")``: ONNX declares its type
variables in the order T1, T2, T3, and the last is that of the output alone, which follows from the
operator. Runtimes have a kernel for each supported combination.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx.defs import OpSchema

ABSENT = "-"
"""Entry of a type variable that neither an input nor an attribute binds."""

Signature = tuple[str, ...]

TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
"""Attributes that state the element type of an output."""

VALUE_ATTRIBUTES: Mapping[str, str] = {
    "value_float": "float",
    "value_floats": "float",
    "value_int": "int64",
    "value_ints": "int64",
    "value_string": "string",
    "value_strings": "string",
}
"""Attributes of `Constant` that imply an element type."""


@dataclass(frozen=True, slots=True)
class SchemaPort:
    """An input or an output in a schema.

    Attributes:
        kind: A type variable, or a type such as ``tensor(int64)``.
        optional: True if a node may leave it out.
        variadic: True if it stands for any further ones as well.
    """

    kind: str
    optional: bool = False
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """Ports and type variables of an operator.

    Attributes:
        inputs: Inputs in order.
        outputs: Outputs in order.
        variables: The allowed types of each type variable, as ONNX writes them.
        required: The attributes without a default that a node must have.
        attributes: The names of all attributes.
        since: The opset from which on it holds.
    """

    inputs: tuple[SchemaPort, ...]
    outputs: tuple[SchemaPort, ...]
    variables: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    since: int = 1

    def input(self, index: int) -> SchemaPort | None:
        """The declared input at ``index``; the last one repeats if it is variadic."""
        if index < len(self.inputs):
            return self.inputs[index]
        last = self.inputs[-1] if self.inputs else None
        return last if last is not None and last.variadic else None


@functools.cache
def standard(op_type: str, opset: int, domain: str = "") -> Schema | None:
    """Return the schema for ``opset`` of ``domain``; None if ONNX does not define it."""
    try:
        found = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if found.deprecated:
        return None
    option = OpSchema.FormalParameterOption
    inputs, outputs = (
        tuple(
            SchemaPort(
                port.type_str, port.option == option.Optional, port.option == option.Variadic
            )
            for port in ports
        )
        for ports in (found.inputs, found.outputs)
    )
    return Schema(
        inputs,
        outputs,
        {c.type_param_str: tuple(c.allowed_type_strs) for c in found.type_constraints},
        tuple(name for name, attribute in found.attributes.items() if attribute.required),
        tuple(found.attributes),
        found.since_version,
    )


def element(kind: str) -> str:
    """Return ``float`` of ``tensor(float)`` and of ``seq(tensor(float))``; a map stays a map."""
    return kind if kind.startswith("map(") else kind.rpartition("(")[2].rstrip(")")


def stated(node: ir.Node) -> str:
    """Return the element type of the first output that an attribute of ``node`` states, if any."""
    for name in TYPE_ATTRIBUTES:
        found = node.attributes.get(name)
        if found is not None and not found.is_ref() and found.type == ir.AttributeType.INT:
            return ir.DataType(found.as_int()).name.lower()
    value = node.attributes.get("value")
    if value is not None and not value.is_ref() and value.type == ir.AttributeType.TENSOR:
        return value.as_tensor().dtype.name.lower()
    return next((kind for name, kind in VALUE_ATTRIBUTES.items() if name in node.attributes), "")


def signature(schema: Schema, inputs: Sequence[str], stated: str = "") -> Signature:
    """Return the types bound to the variables of ``schema``, in its order.

    Args:
        schema: Schema of the node's operator.
        inputs: The element type of each input; empty for one that is left out.
        stated: The element type of the first output, where an attribute states it.
    """
    bound: dict[str, str] = {}
    for index, kind in enumerate(inputs):
        port = schema.input(index)
        if kind and port is not None and port.kind in schema.variables:
            bound.setdefault(port.kind, kind)
    if stated and schema.outputs:
        bound.setdefault(schema.outputs[0].kind, stated)
    return tuple(bound.get(name, ABSENT) for name in schema.variables)
