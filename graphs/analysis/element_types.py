"""Element types of a model's values, as declared or as ONNX infers them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnx_ir.passes.common import shape_inference

from gatewave.graphs.ops.graph_ops import ONNX_TYPES
from gatewave.models import DType

NAMES: Mapping[ir.DataType, DType] = {kind: name for name, kind in ONNX_TYPES.items()}

Types = dict[ir.Value, ir.DataType]


def of_model(model: ir.Model) -> Types:
    """The element types in the main graph and all bodies in it; the model stays as it is.

    The types in a function depend on the call: see `of_function`.
    """
    copy = model.clone()
    _infer(copy)
    return _paired(model.graph, copy.graph)


def of_function(
    model: ir.Model, function: ir.Function, arguments: Sequence[ir.DataType | None]
) -> Types:
    """The element types in a function's body, called with ``arguments``."""
    copies = {identifier: f.clone() for identifier, f in model.functions.items()}
    graph = copies.pop(function.identifier()).graph
    for value, kind in zip(graph.inputs, arguments, strict=False):
        value.type = None if kind is None else ir.TensorType(kind)
    _infer(ir.Model(graph, ir_version=model.ir_version, functions=[*copies.values()]))
    return _paired(function.graph, graph)


def _infer(model: ir.Model) -> None:
    # A model that contradicts itself is not refused here: what is not inferred is not known. The
    # pass would log that, as a traceback, on standard error.
    with contextlib.suppress(Exception), _silent(shape_inference.logger):
        passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _paired(graph: ir.Graph, copy: ir.Graph) -> Types:
    pairs = zip(values(graph), values(copy), strict=True)
    return {value: twin.dtype for value, twin in pairs if twin.dtype is not None}


def values(graph: ir.Graph) -> Iterator[ir.Value]:
    """All values of ``graph`` and of the bodies in it."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs
        for body in bodies(node):
            yield from values(body)


def operands(node: ir.Node) -> Iterator[ir.Value]:
    """The values that ``node`` takes, and those that the nodes in its bodies take and give out."""
    yield from (value for value in node.inputs if value is not None)
    for body in bodies(node):
        yield from body.outputs
        for inner in body:
            yield from operands(inner)


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs inside ``node``: branches, loop bodies."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
