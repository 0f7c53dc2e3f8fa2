"""Models that consist of a single node of another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir
from onnx import TensorProto, TypeProto, helper

from gatewave.graphs.analysis.element_types import operands
from gatewave.graphs.processes.messages import Value


def taken(node: ir.Node) -> list[ir.Value]:
    """Return the values of the graph that ``node`` takes, those of its bodies included."""
    return list(dict.fromkeys(value for value in operands(node) if value.graph is node.graph))


def given(node: ir.Node) -> list[str]:
    """Return the names of the outputs that ``node`` has; omitted ones are left out."""
    return [value.name for value in node.outputs if value.name]


def constant(value: ir.Value) -> ir.TensorProtocol | None:
    """Return the constant value of ``value``: an initializer, or the output of a Constant."""
    if value.is_graph_input():
        return None
    return ir.convenience.get_const_tensor(value)


def named(node: ir.Node) -> str:
    """Return the name of ``node``; without one, that of its first output."""
    return node.name or next(iter(given(node)), "") or node.op_type


def operator(node: ir.Node) -> str:
    """Return the operator of ``node``, with its domain, unless that is ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def model_of(
    node: ir.Node, model: ir.Model, inputs: Mapping[str, Sequence[Value]]
) -> onnx.ModelProto:
    """Return a model of ``node`` alone.

    Args:
        node: One of the main graph of ``model``.
        model: Its opsets and functions are those of the result.
        inputs: Values of its inputs, by name; their types and ranks become the declared ones.
            Constants of ``model`` are constants in the result too: runtimes may require that.
    """
    constants = {value.name: constant(value) for value in taken(node) if value.name not in inputs}
    graph = helper.make_graph(
        [ir.to_proto(node)],
        "node",
        [onnx.ValueInfoProto(name=name, type=_type(values)) for name, values in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in given(node)],
        [_held(name, tensor) for name, tensor in constants.items() if name and tensor is not None],
    )
    return helper.make_model(
        graph,
        ir_version=model.ir_version,
        functions=[ir.to_proto(function) for function in model.functions.values()],
        opset_imports=[
            helper.make_opsetid(domain, version or 1)
            for domain, version in model.opset_imports.items()
        ],
    )


def _held(name: str, tensor: ir.TensorProtocol) -> TensorProto:
    if tensor.dtype == ir.DataType.STRING:
        held = ir.to_proto(tensor)
        held.name = name
        return held
    # Data of an external tensor lie in a file beside the model, and this model is elsewhere.
    return ir.to_proto(ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name))


def _type(values: Sequence[Value]) -> TypeProto:
    """Return the type that all of ``values`` are of; of a rank where they are of one."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, list) for value in known):
        return helper.make_sequence_type_proto(_type([item for value in known for item in value]))
    if not known:
        return TypeProto()
    ranks = {value.ndim for value in known}
    shape = [None] * ranks.pop() if len(ranks) == 1 else None
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(known[0].dtype), shape)
