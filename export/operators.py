"""Activations as ONNX models, which any runtime can open.

The default form is one node of our domain whose decomposition travels along as a model-local
function: a runtime that has a kernel for the node runs it, any other inlines the function. The
decomposed form is the function's body itself, in standard operators only.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from gatewave.graphs.ops import signature
from gatewave.graphs.ops.functions import IR_VERSION, OPSET, body_of
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, compute_dtype
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_VERSION, GRAPHS, Graph
from gatewave.graphs.rewrite.editing.names import free_name
from gatewave.models import DTYPES, Activation, DType, Operator

Form = Literal["function", "decomposed"]
FORMS: tuple[Form, ...] = get_args(Form)


def graphs_of(
    activation: Activation,
    operator: Operator,
    dtypes: Sequence[DType] = DTYPES,
    kinds: Sequence[Graph] = GRAPHS,
) -> dict[tuple[Graph, DType], ir.Model]:
    """Draw ``operator`` from its record: a model for each graph of ``kinds`` and each dtype.

    Torch takes no part: the node's type, inputs and attributes are those of the record. A test
    holds the node to that which `torch.onnx.export` makes of the operator's module.

    Real parameters become scalar inputs with a default, in the compute dtype. The tensors have one
    axis of any length, since ONNX wants the rank of a model's inputs declared: see `with_rank`.
    """
    return {
        (graph, dtype): _model_of(activation, operator, graph, dtype)
        for dtype in dtypes
        for graph in GRAPHS
        if graph in kinds
    }


def decomposed(model: ir.Model) -> ir.Model:
    """The same model in standard operators only, constants as initializers: no functions left."""
    # Not clone(): clones share their tensors, and the pass below names those.
    flat = ir.from_proto(ir.to_proto(model))
    passes.InlinePass()(flat)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(flat)
    flat.opset_imports.pop(DOMAIN, None)
    for index, node in enumerate(flat.graph):
        node.name = f"{node.op_type.lower()}_{index}"
    return flat


def with_rank(model: ir.Model, rank: int | None) -> ir.Model:
    """The same model for tensors of another rank; ``None`` leaves the rank open.

    ONNX Runtime runs a model of open rank; ``onnx.checker`` refuses it, as the ONNX specification
    wants the rank of a graph's inputs and outputs declared.
    """
    shaped = model.clone()
    shape = None if rank is None else ir.Shape([f"d{axis}" for axis in range(rank)])
    for value in (*shaped.graph.inputs, *shaped.graph.outputs):
        if value.name not in shaped.graph.initializers:
            value.shape = shape.copy() if shape is not None else None
    return shaped


def to_bytes(model: ir.Model, *, checked: bool = True) -> bytes:
    """The file's bytes, the same on every run.

    Raises:
        onnx.checker.ValidationError: The model is not valid ONNX, and ``checked``.
    """
    proto = ir.to_proto(model)
    if checked:
        onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _model_of(activation: Activation, operator: Operator, graph: Graph, dtype: DType) -> ir.Model:
    """One node, alone in a model, under the names that the record gives, with its function."""
    kind = ir.TensorType(ONNX_TYPES[dtype])
    tensors = [
        ir.Value(name=name, type=kind, shape=ir.Shape(["n"]))
        for name in signature.inputs(activation, graph)
    ]
    names = signature.outputs(activation, graph)
    node = ir.node(
        signature.op_type(operator, graph),
        tensors,
        domain=DOMAIN,
        num_outputs=len(names),
        name=operator.op_type,
    )
    for value, name in zip(node.outputs, names, strict=True):
        value.name, value.type, value.shape = name, kind, ir.Shape(["n"])
    drawn = ir.Graph(
        tensors,
        node.outputs,
        nodes=[node],
        opset_imports={"": OPSET, DOMAIN: DOMAIN_VERSION},
        name=activation.stem(operator),
    )
    drawn.inputs.extend(append_scalars(node, drawn, activation.defaults(operator), dtype))
    body = body_of(activation, operator, graph, dtype, OPSET)
    drawn.opset_imports[""] = body.opset_imports[""]
    return ir.Model(drawn, ir_version=IR_VERSION, producer_name="gatewave", functions=[body])


def attributes_to_inputs(node: ir.Node, graph: ir.Graph, dtype: DType) -> None:
    """Turn the node's real attributes into scalar initializers: an attribute is float32 only."""
    reals = {name: attribute.as_float() for name, attribute in node.attributes.items()}
    node.attributes.clear()
    append_scalars(node, graph, reals, dtype)


def append_scalars(
    node: ir.Node, graph: ir.Graph, reals: Mapping[str, float], dtype: DType
) -> list[ir.Value]:
    """Give ``node`` the real parameters as its last inputs: initializers in the compute dtype."""
    scalars = []
    for name, real in reals.items():
        label = free_name(name, _names_of(graph))
        scalar = ir.Value(
            name=label,
            type=ir.TensorType(ONNX_TYPES[compute_dtype(dtype)]),
            shape=ir.Shape([]),
            const_value=ir.tensor(np.array(real, compute_dtype(dtype)), name=label),
        )
        graph.register_initializer(scalar)
        scalars.append(scalar)
    count = len(node.inputs)
    node.resize_inputs(count + len(scalars))
    for index, scalar in enumerate(scalars, start=count):
        node.replace_input_with(index, scalar)
    return scalars


def _names_of(graph: ir.Graph) -> set[str | None]:
    produced = itertools.chain.from_iterable(node.outputs for node in graph.all_nodes())
    return {value.name for value in (*graph.inputs, *graph.initializers.values(), *produced)}
