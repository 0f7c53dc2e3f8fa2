"""Function bodies of operators: the decomposition of a record as an ONNX function."""

from __future__ import annotations

import onnx_ir as ir

from gatewave.graphs.ops import signature
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, GraphOps, compute_dtype
from gatewave.graphs.ops.signature import DOMAIN, Graph
from gatewave.models import Activation, DType, Operator

OPSET = 17
IR_VERSION = 8
"""Oldest format in use: every runtime of the last four years reads it."""


def body_of(
    activation: Activation, operator: Operator, graph: Graph, dtype: DType, opset: int
) -> ir.Function:
    """The model-local function: the record's decomposition, 16-bit floats computed in float32."""
    op = GraphOps(dtype, opset)
    narrow = compute_dtype(dtype) != dtype
    tensors = [ir.Value(name=name) for name in signature.inputs(activation, graph)]
    reals = {name: ir.Value(name=name) for name in operator.reals}
    wide = [_cast(op, tensor, compute_dtype(dtype)) for tensor in tensors] if narrow else tensors
    outputs: list[ir.Value] = []
    for result in signature.function(operator, graph)(op, *wide, **reals):
        if narrow:
            outputs.append(_cast(op, result, dtype))
        elif result.producer() is None or result in outputs:
            # ONNX wants each output to be a value of its own, and no input.
            outputs.append(op.node("Identity", [result]))
        else:
            outputs.append(result)
    for name, output in zip(signature.outputs(activation, graph), outputs, strict=True):
        output.name = name
    body = ir.Graph(
        [*tensors, *reals.values()], outputs, nodes=op.nodes, opset_imports={"": op.opset}
    )
    name = signature.op_type(operator, graph)
    return ir.Function(DOMAIN, name, graph=body, attributes=[])


def _cast(op: GraphOps, tensor: ir.Value, dtype: DType) -> ir.Value:
    return op.node("Cast", [tensor], to=ONNX_TYPES[dtype].value)
