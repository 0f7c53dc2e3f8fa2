"""The parts of an ONNX protobuf message, each found wherever it may be nested.

Graphs nest at most some thirty deep: protobuf itself reads no deeper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import Message

Body = onnx.GraphProto | onnx.FunctionProto

FunctionIdentifier = tuple[str, str, str]
"""Domain, name and overload of an operator."""


def domain(name: str) -> str:
    """Return the empty spelling of ONNX's own domain; other domains stay."""
    return "" if name == "ai.onnx" else name


def identifier(node: onnx.NodeProto) -> FunctionIdentifier:
    return domain(node.domain), node.op_type, node.overload


def function_identifier(function: onnx.FunctionProto) -> FunctionIdentifier:
    return domain(function.domain), function.name, function.overload


def bodies(model: onnx.ModelProto) -> Iterator[Body]:
    """Every graph and function of ``model``, also those inside nodes, but no training graphs."""
    yield from nested(model.graph)
    for function in model.functions:
        yield from nested(function)


def nested(body: Body) -> Iterator[Body]:
    yield body
    for attribute in attributes(body):
        for graph in graphs(attribute):
            yield from nested(graph)


def attributes(body: Body) -> Iterator[onnx.AttributeProto]:
    """Attributes of the nodes and defaults of a function's attributes, without nested graphs."""
    for node in body.node:
        yield from node.attribute
    if isinstance(body, onnx.FunctionProto):
        yield from body.attribute_proto


def graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def tensors(body: Body) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The dense tensors of ``body`` with their names in messages, without nested graphs."""
    if isinstance(body, onnx.GraphProto):
        for tensor in body.initializer:
            yield f"tensor {tensor.name!r}", tensor
    for what, attribute in _named_attributes(body):
        if attribute.HasField("t"):
            yield what, attribute.t
        for tensor in attribute.tensors:
            yield what, tensor


def sparse_tensors(body: Body) -> Iterator[tuple[str, onnx.SparseTensorProto]]:
    if isinstance(body, onnx.GraphProto):
        for tensor in body.sparse_initializer:
            yield f"sparse tensor {tensor.values.name!r}", tensor
    for what, attribute in _named_attributes(body):
        if attribute.HasField("sparse_tensor"):
            yield what, attribute.sparse_tensor
        for tensor in attribute.sparse_tensors:
            yield what, tensor


def _named_attributes(body: Body) -> Iterator[tuple[str, onnx.AttributeProto]]:
    for index, node in enumerate(body.node):
        for attribute in node.attribute:
            yield f"attribute {attribute.name!r} of {node_name(node, index)}", attribute
    if isinstance(body, onnx.FunctionProto):
        for attribute in body.attribute_proto:
            yield f"attribute {attribute.name!r} of {name(function_identifier(body))}", attribute


def node_name(node: onnx.NodeProto, index: int) -> str:
    """Return the name of ``node`` for a message."""
    return (f"node {node.name!r}" if node.name else f"node {index}") + f" ({node.op_type})"


def name(identifier: FunctionIdentifier) -> str:
    """Return the name of an operator for a message."""
    of_domain, operator, overload = identifier
    return f"{of_domain or 'ai.onnx'}::{operator}" + (f":{overload}" if overload else "")


def value_infos(body: Body) -> Iterator[onnx.ValueInfoProto]:
    yield from body.value_info
    if isinstance(body, onnx.GraphProto):
        yield from body.input
        yield from body.output


def strings(message: Message) -> Iterator[tuple[str, str | bytes]]:
    """Every text in ``message`` with the name of its field; bytes, where it is no UTF-8."""
    pending = [message]
    while pending:
        for field, value in _fields(pending.pop()):
            many = value if field.is_repeated else [value]
            if field.type == field.TYPE_MESSAGE:
                pending.extend(many)
            elif field.type == field.TYPE_STRING:
                yield from ((field.name, text) for text in many)


def _fields(message: Message) -> Iterable[tuple[Any, Any]]:
    if not isinstance(message, onnx.TensorProto):
        return message.ListFields()
    # ListFields() would copy all of a tensor's bytes.
    names = ("name", "doc_string", "external_data", "metadata_props")
    fields = onnx.TensorProto.DESCRIPTOR.fields_by_name
    return [(fields[name], getattr(message, name)) for name in names]
