"""Models of one or a few nodes of another model, which a runtime is asked to load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from gatewave.graphs.analysis.element_types import bodies

MAX_CONSTANT = 1024
"""Largest constant, in elements, that is copied: an operator may need its axes or scales."""

IR_VERSION = 10
"""The newest IR version that every ONNX Runtime version with a target file reads."""

KindOf = Callable[[ir.Value], str]
"""ONNX's name of a value's element type; ``?`` if it is not known."""


def model(nodes: Sequence[ir.Node], kind_of: KindOf, imports: Mapping[str, int]) -> bytes | None:
    """Return a model of ``nodes``, in their order; None if they depend on their surroundings.

    The outputs are those of the last node. Values from outside become inputs, or
    initializers if they are small constants.
    """
    if any(_is_tied(node) for node in nodes):
        return None
    made = {value for node in nodes for value in node.outputs}
    needed = dict.fromkeys(v for n in nodes for v in n.inputs if v is not None and v not in made)
    if any(kind_of(value) == "?" for value in needed):
        return None
    names = {value: f"v{index}" for index, value in enumerate((*needed, *_results(nodes)))}
    constants = {v: _constant(v, names[v], kind_of(v)) for v in needed}
    inputs = [_input(v, names[v], kind_of(v)) for v in needed if constants[v] is None]
    outputs = [onnx.ValueInfoProto(name=names[v]) for v in nodes[-1].outputs if v in names]
    graph = helper.make_graph(
        [_copied(node, names) for node in nodes],
        "excerpt",
        inputs,
        outputs,
        [constant for constant in constants.values() if constant is not None],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in imports.items()]
    whole = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return bytes(whole.SerializeToString())


def ancestry(node: ir.Node, depth: int) -> list[ir.Node]:
    """Return ``node`` and the nodes of its graph that it is computed from, in ``depth`` steps."""
    found, layer = {node}, [node]
    for _ in range(depth - 1):
        makers = [value.producer() for one in layer for value in one.inputs if value is not None]
        layer = [m for m in makers if m is not None and m.graph is node.graph and m not in found]
        found.update(layer)
    return [one for one in node.graph or () if one in found]


def _is_tied(node: ir.Node) -> bool:
    """Return true if it has bodies, or attributes that the caller of its function gives."""
    refers = any(attribute.is_ref() for attribute in node.attributes.values())
    return refers or any(True for _ in bodies(node))


def _results(nodes: Sequence[ir.Node]) -> Iterator[ir.Value]:
    return (value for node in nodes for value in node.outputs if value.name)


def _copied(node: ir.Node, names: Mapping[ir.Value, str]) -> onnx.NodeProto:
    """Return the node as a message, without its name and other irrelevant fields."""
    proto = ir.to_proto(node)
    copy = onnx.NodeProto(op_type=proto.op_type, domain=proto.domain)
    copy.attribute.extend(proto.attribute)
    copy.input.extend("" if value is None else names[value] for value in node.inputs)
    copy.output.extend(names.get(value, "") for value in node.outputs)
    return copy


def _constant(value: ir.Value, name: str, kind: str) -> onnx.TensorProto | None:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.size > MAX_CONSTANT:
        return None
    if kind != tensor.dtype.name.lower():
        # The question is about another element type than the model's: constants get it, too.
        dtype = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind.upper()))
        return numpy_helper.from_array(np.asarray(tensor.numpy()).astype(dtype), name)
    copy = onnx.TensorProto.FromString(ir.to_proto(tensor).SerializeToString())
    copy.name = name
    return copy


def _input(value: ir.Value, name: str, kind: str) -> onnx.ValueInfoProto:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        typed = ir.Value(name=name, type=value.type)
        return onnx.ValueInfoProto.FromString(ir.to_proto(typed).SerializeToString())
    shape = None
    if value.shape is not None:
        shape = [size if isinstance(size, int) else None for size in value.shape]
    number = onnx.TensorProto.DataType.Value(kind.upper())
    return helper.make_tensor_value_info(name, number, shape)
