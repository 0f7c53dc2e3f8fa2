"""Types and shapes of the values in a model, as inferred by ONNX.

All inference runs here: `shapes` asks for types and shapes, `element_types` for types alone.

Inference runs on a copy without the large tensors, so its time does not depend on the model's size.
Two facts are added to those that ONNX knows:

- a contributed activation has the type and shape of its first input;
- the body of a function has the types and shapes that all its calls agree on. If the calls differ,
  the type is unknown, as are the types of the values that depend on it.
"""

from __future__ import annotations

import contextlib
import graphlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from gatewave.graphs.analysis import calls, protos, unsupported
from gatewave.graphs.analysis.contents import swapped
from gatewave.graphs.analysis.inference_client import INFERENCE
from gatewave.graphs.analysis.protos import Body, FunctionIdentifier
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.analysis.thresholds import MAX_SHAPE_BYTES
from gatewave.graphs.analysis.unsupported import SparseInitializer
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.processes.errors import Lost, Refused

logger = logging.getLogger(__name__)

LIKE_INPUT = frozenset(
    ("com.microsoft", name) for name in ("QuickGelu", "Gelu", "FastGelu", "BiasGelu")
)
"""Contributed operators whose result has the type and shape of their first input."""

MAIN: FunctionIdentifier = ("", "", "")
"""Key of the model's own graph among the names of its functions."""

GENERATED = "unk__"
"""Prefix of the names that ONNX's inference invents for dimensions."""


def inferred(model: ir.Model) -> None:
    """Add inferred types and shapes to the values of ``model``; stated ones stay.

    It never fails. Values of small tensors are followed, in a process of its own: see `following`.
    """
    light = light_copy(model)
    functions = {protos.function_identifier(function): function for function in light.functions}
    roots = root_scopes(model)
    _add(_run(light), roots.pop(MAIN), made_up=True)
    callers: dict[FunctionIdentifier, list[ir.Node]] = {}
    for node in _nodes(scopes(model)):
        callers.setdefault(node.op_identifier(), []).append(node)
    for identifier in _callers_first(roots):
        if identifier in callers:
            lone = calls.alone(functions[identifier], callers[identifier], light)
            _add(_run(lone), roots[identifier], made_up=False)


def light_copy(model: ir.Model) -> onnx.ModelProto:
    """Return the message of ``model`` without large tensors, in operators that ONNX knows."""
    with swapped(model, _lighter):
        light = ir.to_proto(model)
    own = {protos.function_identifier(function) for function in light.functions}
    roots: list[tuple[Body, Any]] = [(light.graph, light.opset_import)]
    roots += [(function, function.opset_import) for function in light.functions]
    for root, imports in roots:
        known = {entry.domain for entry in imports}
        for node in (node for body in protos.nested(root) for node in body.node):
            # For ONNX they are unknown operators, after which nothing would be known.
            if _is_like_input(node, own):
                node.domain, node.op_type = "", "Identity"
                del node.input[1:], node.attribute[:]
            # Inference gives up at the first domain that is not imported.
            elif node.domain not in known:
                known.add(node.domain)
                imports.add(domain=node.domain, version=1)
    return light


def light_functions(model: ir.Model) -> onnx.ModelProto:
    """Return the message of the functions of ``model``, as `light_copy`, with an empty graph."""
    empty = ir.Graph((), (), nodes=(), opset_imports=model.opset_imports)
    functions = [*model.functions.values()]
    return light_copy(ir.Model(empty, ir_version=model.ir_version, functions=functions))


def _lighter(tensor: ir.TensorProtocol) -> ir.TensorProtocol | None:
    if isinstance(tensor, ir.StringTensor):
        return None
    if isinstance(tensor, SparseInitializer) or tensor.nbytes > MAX_SHAPE_BYTES:
        shape = ir.Shape(tensor.shape.numpy())
        return ir.ExternalTensor(
            "left out", 0, None, tensor.dtype, shape=shape, name=tensor.name or ""
        )
    # Small tensors are copied in, as the process that infers opens no files.
    if isinstance(tensor, ir.ExternalTensor):
        with contextlib.suppress(OSError, ValueError):  # gone since, or no longer to be trusted
            return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    return None


def _is_like_input(node: onnx.NodeProto, functions: Iterable[FunctionIdentifier]) -> bool:
    if len(node.output) != 1 or not node.input or protos.identifier(node) in functions:
        return False
    return node.domain == DOMAIN or (node.domain, node.op_type) in LIKE_INPUT


def _run(model: onnx.ModelProto) -> onnx.GraphProto:
    """Return the graph of ``model`` with inferred types, and follow the values of small tensors.

    If that fails, the values are not followed: a model may ask for a tensor of 2⁴⁰ elements.
    """
    try:
        return INFERENCE.infer(model).graph
    except Lost as error:
        logger.warning("shape inference %s", error)
    except Refused as error:
        logger.warning("shape inference failed: %s", error.message)
    return run_here(model, logging.WARNING)


def run_here(model: onnx.ModelProto, level: int = logging.DEBUG) -> onnx.GraphProto:
    """Return the graph of ``model`` with inferred types; an empty one if inference fails."""
    try:
        return onnx.shape_inference.infer_shapes(model).graph
    except Exception as error:  # noqa: BLE001 - it raises whatever an operator's rule does
        logger.log(level, "shape inference failed: %s", error)
    return onnx.GraphProto()


def root_scopes(model: ir.Model) -> dict[FunctionIdentifier, list[Scope]]:
    """Return the scopes of the main graph under `MAIN`, and those of each function."""
    roots: dict[FunctionIdentifier, list[Scope]] = {}
    root = MAIN
    for scope in scopes(model):
        if isinstance(scope.graph, ir.Function):
            root = scope.graph.identifier()
        roots.setdefault(root, []).append(scope)
    return roots


def _callers_first(
    functions: Mapping[FunctionIdentifier, Sequence[Scope]],
) -> list[FunctionIdentifier]:
    callers: dict[FunctionIdentifier, set[FunctionIdentifier]] = {
        identifier: set() for identifier in functions
    }
    for identifier, own in functions.items():
        for node in _nodes(own):
            if node.op_identifier() in callers:
                callers[node.op_identifier()].add(identifier)
    return list(graphlib.TopologicalSorter(callers).static_order())


def _nodes(within: Iterable[Scope]) -> Iterator[ir.Node]:
    for scope in within:
        yield from scope.graph


def _add(found: onnx.GraphProto, within: Sequence[Scope], *, made_up: bool) -> None:
    """Add what was ``found`` to the values of the graphs ``within``.

    Names of dimensions that inference made up mean something in one graph only: a function's body
    may be put into several, and does without them.
    """
    for scope, body in zip(within, protos.nested(found)):  # noqa: B905 - none, where it failed
        infos = {info.name: info for info in protos.value_infos(body)}
        made = (value for node in scope.graph for value in node.outputs)
        for value in itertools.chain(scope.graph.inputs, made):
            if value.name in infos:
                _tell(value, infos[value.name].type, made_up=made_up)


def _tell(value: ir.Value, type_: onnx.TypeProto, *, made_up: bool) -> None:
    if type_.WhichOneof("value") is None or not unsupported.is_supported(type_):
        return
    if value.type is None:
        value.type = ir.serde.deserialize_type_proto_for_type(type_)
    shape = ir.serde.deserialize_type_proto_for_shape(type_)
    # A model that contradicts itself keeps the shape that it states.
    if shape is None or (value.shape is not None and len(value.shape) != len(shape)):
        return
    told = ir.Shape([dim if made_up or not _is_made_up(dim) else None for dim in shape])
    if value.shape is not None:
        for axis, dim in enumerate(value.shape):
            if not _is_unknown(dim):
                told[axis] = dim
    if value.shape != told:
        value.shape = told


def _is_unknown(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and dim.value is None


def _is_made_up(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and (dim.value or "").startswith(GENERATED)
