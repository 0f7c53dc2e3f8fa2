"""Conversion of a model to another version of the standard operators, with equal results.

A node whose operator is the same in both versions stays as it is. Any other is converted alone,
and the result takes its place. ONNX's converter takes whole models; names, functions, bodies,
metadata and external data are thus kept from it.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import onnx_ir as ir

from gatewave.graphs.analysis import element_types
from gatewave.graphs.analysis.element_types import Types
from gatewave.graphs.analysis.scopes import Scope, scopes, standard_opset
from gatewave.graphs.analysis.shapes import shapes
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.editing.editor import Editor
from gatewave.graphs.rewrite.lower.conversion_rules import NotConvertibleError
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.lower.lowerings import identifier_of, lowering_of
from gatewave.graphs.rewrite.lower.node_conversion import converted, given
from gatewave.graphs.rewrite.lower.operator_schemas import since
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.targets import Target

STANDARD = ("", "ai.onnx")


def convert_for(model: ir.Model, target: Target, legality: Legality) -> list[Change]:
    """Bring ``model`` to the opset that the target reads and that is nearest to its own.

    Nodes that are written in other operators afterwards keep their version: an opset that lacks
    their operator or element type is no obstacle.
    """

    def is_rewritten(node: ir.Node) -> bool:
        return lowering_of(node) is not None and (
            since(node.op_type, legality.opset) is None
            or not target.runs(identifier_of(node), legality.opset, None)
            or bool(legality.disallowed(node, legality.dtype_of(node)))
        )

    return convert(model, legality.opset, exempt=is_rewritten)


def convert(model: ir.Model, opset: int, *, exempt: Callable[[ir.Node], bool]) -> list[Change]:
    """Bring the model and its functions to ``opset``; it stays as it was if that cannot be.

    Args:
        model: It is changed in place.
        opset: The version of the standard operators.
        exempt: Returns true for nodes that are rewritten later and need no conversion: they keep
            the opset that they are written in, as their ``version``.

    Raises:
        TargetError: A node has no equivalent there; the message names all of them.
    """
    stale = [scope for scope in scopes(model) if standard_opset(scope.opsets) not in (None, opset)]
    types = _types(model) if stale else {}
    inferred = functools.cache(lambda: shapes(model))
    planned: list[tuple[Scope, ir.Node, ir.Graph]] = []
    obstacles: list[str] = []
    for scope in stale:
        for node in scope.graph:
            before = standard_opset(scope.opsets) or opset
            if node.domain in STANDARD and exempt(node):
                node.version = before
            elif node.domain in STANDARD:
                try:
                    found = converted(node, before, opset, types, lambda v: inferred().shape(v))
                except NotConvertibleError as reason:
                    obstacles.append(f"{_label(scope, node)} ({reason})")
                else:
                    planned += [(scope, node, found)] if found is not None else []
    if obstacles:
        raise TargetError(f"opset {opset} cannot be reached because of {'; '.join(obstacles)}")
    editor = Editor(model)
    changes = [_replace(editor, scope, node, graph) for scope, node, graph in planned]
    return [*changes, *_stamp(model, opset)]


def _types(model: ir.Model) -> Types:
    """Return the types of all values; in functions, only where all callers agree."""
    types = element_types.of_model(model)
    for _ in model.functions:  # the deepest is called through all others
        before = len(types)
        for identifier, kinds in _calls(model, types).items():
            if len(kinds) == 1:
                types |= _of_function(model, model.functions[identifier], *kinds)
        if len(types) == before:
            break
    return types


Kinds = tuple[ir.DataType | None, ...]


def _calls(model: ir.Model, types: Types) -> Mapping[ir.OperatorIdentifier, set[Kinds]]:
    """Return the element types with which each function is called."""
    found: dict[ir.OperatorIdentifier, set[Kinds]] = defaultdict(set)
    for scope in scopes(model):
        for node in scope.graph:
            if node.op_identifier() in model.functions:
                kinds = (None if v is None else v.dtype or types.get(v) for v in node.inputs)
                found[node.op_identifier()].add(tuple(kinds))
    return found


def _of_function(model: ir.Model, function: ir.Function, kinds: Kinds) -> Types:
    given = zip(function.inputs, kinds, strict=False)
    known = {value: kind for value, kind in given if kind is not None}
    return {**element_types.of_function(model, function, kinds), **known}


def _stamp(model: ir.Model, opset: int) -> Iterator[Change]:
    for label, imports in (
        ("", model.opset_imports),
        *((f"function {f.domain}::{f.name}", f.opset_imports) for f in model.functions.values()),
    ):
        before = standard_opset(imports)
        if before not in (None, opset):
            imports.pop("ai.onnx", None)
            imports[""] = opset
            yield Change(label, "", f"opset {before} → {opset}", "opset")


def _replace(editor: Editor, scope: Scope, node: ir.Node, graph: ir.Graph) -> Change:
    """Replace ``node`` by copies of the nodes in ``graph``, a converted model of it alone."""
    inputs = given(node)
    values = (*graph.inputs, *graph.initializers.values())
    known = {value: inputs[value.name or ""] for value in values if value.name in inputs}
    op = editor.drawing(node, scope)
    for other in graph:
        operands = [value and known[value] for value in other.inputs]
        name = node.name if other.op_type == node.op_type else None
        known |= zip(other.outputs, op.copy(other, operands, name=name), strict=True)
    kept = [output for output in node.outputs if output.name]
    results = [known[output] for output in graph.outputs]
    editor.replace(node, op.nodes, list(zip(kept, results, strict=True)))
    label = f"{node.op_type} → {', '.join(other.op_type for other in graph)}"
    return Change(scope.name, node.name or "", label, "opset", results[0].name or "")


def _label(scope: Scope, node: ir.Node) -> str:
    where = f" in {scope.name}" if scope.name else ""
    return f"{node.op_type} {node.name or node.outputs[0].name!r}{where}"
