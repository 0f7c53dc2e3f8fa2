"""Element types of a model's values, stated or inferred."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir

from gatewave.graphs.analysis import calls, infer, protos, unsupported
from gatewave.graphs.analysis.scopes import Scope
from gatewave.graphs.ops.graph_ops import ONNX_TYPES
from gatewave.models import DType

NAMES: Mapping[ir.DataType, DType] = {kind: name for name, kind in ONNX_TYPES.items()}

Types = dict[ir.Value, ir.DataType]


def of_model(model: ir.Model) -> Types:
    """Return the element types in the main graph and all bodies in it; the model is not changed.

    Types in a function depend on the call: see `of_function`. Values are not followed, as element
    types do not depend on them; inference is then safe to run in this process.
    """
    return _types(infer.root_scopes(model)[infer.MAIN], infer.run_here(infer.light_copy(model)))


def of_function(
    model: ir.Model, function: ir.Function, arguments: Sequence[ir.DataType | None]
) -> Types:
    """Return the element types in a function's body if it is called with ``arguments``."""
    scopes = infer.root_scopes(model)[function.identifier()]
    functions = infer.light_functions(model)
    by_name = {protos.function_identifier(body): body for body in functions.functions}
    called = calls.called(by_name[function.identifier()], arguments, functions)
    return _types(scopes, infer.run_here(called))


def _types(within: Sequence[Scope], found: onnx.GraphProto) -> Types:
    # Where inference failed there are no bodies, and only stated types are known.
    bodies = itertools.chain(protos.nested(found), itertools.repeat(onnx.GraphProto()))
    types: Types = {}
    for scope, body in zip(within, bodies, strict=False):
        infos = {info.name: info.type for info in protos.value_infos(body)}
        for value in scope.values():
            kind = value.dtype or _element_type(infos.get(value.name or ""))
            if kind is not None:
                types[value] = kind
    return types


def _element_type(type_: onnx.TypeProto | None) -> ir.DataType | None:
    if type_ is None or type_.WhichOneof("value") is None or not unsupported.is_supported(type_):
        return None
    told = ir.serde.deserialize_type_proto_for_type(type_)
    return None if told is None else told.dtype


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
