"""ONNX's own bodies for operators that a target lacks: RMSNormalization, Attention, and others.

Each node becomes the call of a function of its own, which is converted and inlined as any other.
The body depends on the node: ONNX builds it for the given attributes and element types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
import onnx_ir as ir

from gatewave.graphs.analysis.element_types import Types
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.rewrite.editing.editor import Editor
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.lower.lowerings import identifier_of, lowering_of
from gatewave.graphs.rewrite.lower.operator_schemas import since
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.targets import Target

DOMAIN = "ai.onnx.body"
"""Domain of the functions that are made here; `inlining` removes them all."""


def use_bodies(model: ir.Model, target: Target, legality: Legality) -> list[Change]:
    """Replace operators that ``target`` lacks by the body that ONNX has for them."""
    opset, types = legality.opset, legality.types
    editor = Editor(model)
    changes = [
        _called(editor, scope, node, body)
        for scope in list(scopes(model))
        if not scope.in_function
        for node in list(scope.graph)
        if not _has(target, node, opset)
        and target.runs_body(identifier_of(node))
        and (body := _body(node, scope.opsets.get("", opset), types)) is not None
    ]
    if changes:
        model.opset_imports[DOMAIN] = 1
    return changes


def _has(target: Target, node: ir.Node, opset: int) -> bool:
    """Return true if the target has the operator in some element type, or a lowering exists."""
    identifier = identifier_of(node)
    return (
        bool(identifier[0])
        or lowering_of(node) is not None
        or (since(node.op_type, opset) is not None and target.runs(identifier, opset, None))
    )


def _body(node: ir.Node, opset: int, types: Types) -> onnx.FunctionProto | None:
    """Return ONNX's function body for this node; None without a body, or if types are missing."""
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, "")  # its stub lacks bodies
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        return onnx.FunctionProto.FromString(schema.function_body.SerializeToString())
    kinds = [_type(value, types) for value in node.inputs]
    if not schema.has_context_dependent_function or None in kinds:
        return None
    proto = ir.to_proto(node).SerializeToString()
    found = schema.get_context_dependent_function(proto, kinds)
    return onnx.FunctionProto.FromString(found) if found else None


def _type(value: ir.Value | None, types: Types) -> bytes | None:
    """Return the type; empty for an omitted input, None if it is not known."""
    if value is None:
        return b""
    kind = value.dtype or types.get(value)
    if kind is None:
        return None
    shape = (
        None if value.shape is None else [d if isinstance(d, int) else None for d in value.shape]
    )
    return bytes(onnx.helper.make_tensor_type_proto(kind.value, shape).SerializeToString())


def _called(editor: Editor, scope: Scope, node: ir.Node, body: onnx.FunctionProto) -> Change:
    """Make a function of ``body``, and ``node`` its call."""
    functions = editor.model.functions
    body.domain, body.name = DOMAIN, f"{node.op_type}_{len(functions)}"
    del body.output[len(node.outputs) :]
    _prune(body)
    function = ir.from_proto(body)
    functions[function.identifier()] = function
    call = ir.node(
        body.name,
        node.inputs,
        attributes=node.attributes,
        domain=DOMAIN,
        num_outputs=len(node.outputs),
        name=node.name,
    )
    editor.replace(node, [call], list(zip(node.outputs, call.outputs, strict=True)))
    name = call.outputs[0].name or ""
    label = f"{node.op_type} → the body that ONNX gives for it"
    return Change(scope.name, node.name or "", label, node.op_type.lower(), name)


def _prune(body: onnx.FunctionProto) -> None:
    """Remove the nodes that only unused outputs need."""
    kept = list(_needed(body))
    del body.node[:]
    body.node.extend(reversed(kept))


def _needed(body: onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    wanted = set(body.output)
    for node in reversed([onnx.NodeProto.FromString(n.SerializeToString()) for n in body.node]):
        if wanted & set(node.output):
            wanted |= set(node.input)
            yield node
