"""A function as its calls use it: a model of its own, for inference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir

from gatewave.graphs.analysis import protos

OPAQUE = "nothing is known of this"
"""A domain of operators that no inference knows."""


def alone(
    function: onnx.FunctionProto, nodes: Sequence[ir.Node], model: onnx.ModelProto
) -> onnx.ModelProto:
    """The body of ``function`` as a model's graph, with the facts that all calls ``nodes`` share.

    Inputs have the type that they have in every call, with the dimensions that are the same. An
    attribute has the value that it has in every call. Nodes that use an attribute that differs
    become operators without a schema.
    """
    given = (
        [node.inputs[index] if index < len(node.inputs) else None for node in nodes]
        for index in range(len(function.input))
    )
    alone = _model(function, [_agreed(values) for values in given], model)
    defaults = {attribute.name: attribute for attribute in function.attribute_proto}
    names = [*function.attribute, *defaults]
    values = {name: _value(name, defaults.get(name), nodes) for name in names}
    for body in protos.nested(alone.graph):
        for node in body.node:
            _bind(node, values)
    return alone


def called(
    function: onnx.FunctionProto, arguments: Sequence[ir.DataType | None], model: onnx.ModelProto
) -> onnx.ModelProto:
    """Return the body of ``function`` as a model's graph, with the element types of ``arguments``.

    Attributes that a call gives stay references: most element types do not depend on them.
    """
    types = (
        None if kind is None else onnx.helper.make_tensor_type_proto(kind.value, None)
        for kind in arguments
    )
    return _model(function, list(types), model)


def _model(
    function: onnx.FunctionProto, types: Sequence[onnx.TypeProto | None], model: onnx.ModelProto
) -> onnx.ModelProto:
    graph = onnx.GraphProto(name=function.name, node=function.node)
    for name, type_ in itertools.zip_longest(function.input, types[: len(function.input)]):
        graph.input.add(name=name, type=type_)
    for name in function.output:
        graph.output.add(name=name)
    return onnx.ModelProto(
        ir_version=model.ir_version,
        opset_import=[*function.opset_import, onnx.helper.make_opsetid(OPAQUE, 1)],
        functions=model.functions,
        graph=graph,
    )


def _agreed(given: Sequence[ir.Value | None]) -> onnx.TypeProto | None:
    values = [value for value in given if value is not None and _is_tensor(value)]
    dtypes = {value.dtype for value in values if value.dtype is not None}
    if len(values) != len(given) or len(dtypes) != 1:
        return None
    shape = _agreed_shape([value.shape for value in values])
    return onnx.helper.make_tensor_type_proto(dtypes.pop().value, shape)


def _is_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType)


def _agreed_shape(given: Sequence[ir.Shape | None]) -> list[int | str | None] | None:
    shapes = [shape for shape in given if shape is not None]
    if len(shapes) != len(given) or len({len(shape) for shape in shapes}) != 1:
        return None
    axes = zip(*(_dimensions(shape) for shape in shapes), strict=True)
    return [axis[0] if len(set(axis)) == 1 else None for axis in axes]


def _dimensions(shape: ir.Shape) -> Iterator[int | str | None]:
    return (dim if isinstance(dim, int) else dim.value for dim in shape)


def _value(
    name: str, default: onnx.AttributeProto | None, nodes: Sequence[ir.Node]
) -> onnx.AttributeProto | str | None:
    """Return the attribute's value if all calls agree; None if left out, otherwise `OPAQUE`."""
    given = [node.attributes.get(name) for node in nodes]
    if any(attribute is not None and attribute.is_ref() for attribute in given):
        return OPAQUE
    values = [default if a is None else ir.serde.serialize_attribute(a) for a in given]
    return values[0] if all(value == values[0] for value in values) else OPAQUE


def _bind(node: onnx.NodeProto, values: dict[str, onnx.AttributeProto | str | None]) -> None:
    for index in reversed(range(len(node.attribute))):
        attribute = node.attribute[index]
        if not attribute.ref_attr_name:
            continue
        value, name = values.get(attribute.ref_attr_name, OPAQUE), attribute.name
        if isinstance(value, onnx.AttributeProto):
            attribute.CopyFrom(value)
            attribute.name = name
        else:
            del node.attribute[index]
        # In a domain that ONNX does not know, nothing is inferred from the node.
        if value == OPAQUE:
            node.domain = OPAQUE
