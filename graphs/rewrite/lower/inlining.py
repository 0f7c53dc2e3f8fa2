"""Inlining of functions that the target does not run as they are."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes import common as passes

from gatewave.graphs.analysis.element_types import values
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.editing.names import rename_shadows
from gatewave.graphs.rewrite.lower import standard_bodies
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.lower.problems import ProblemSearch
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.targets import Target


def inline(model: ir.Model, target: Target, legality: Legality) -> list[Change]:
    """Inline every function with a node that ``target`` does not run; all if it runs no functions.

    Raises:
        TargetError: A function calls itself, or cannot be inlined for another reason.
    """
    wanted = set(model.functions) if not target.functions else _unfit(model, legality)
    made = {identifier for identifier in model.functions if identifier[0] == standard_bodies.DOMAIN}
    if not (wanted := wanted | made):
        return []
    changes = list(_calls(model, wanted - made))
    originals = set(values(model.graph))
    try:
        passes.InlinePass(lambda function: function.identifier() in wanted)(model)
    except (ValueError, ir.passes.PassError) as error:
        raise TargetError(f"{target.name}: a function cannot be inlined: {error}") from error
    rename_shadows(model, originals)
    for identifier in wanted & set(model.functions):
        del model.functions[identifier]  # it is not called, so the pass has left it
    model.opset_imports.pop(standard_bodies.DOMAIN, None)
    return changes


def _unfit(model: ir.Model, legality: Legality) -> set[ir.OperatorIdentifier]:
    """Return the functions with a problem for the types of their calls, and their callees.

    A callee's problem counts for its callers, so callees are inlined, too.
    """
    search = ProblemSearch(legality)
    unfit: set[ir.OperatorIdentifier] = set()
    for scope in scopes(model):
        if not scope.in_function:
            for node in scope.graph:
                call = search.call(node, legality.types)
                if call is not None and any(problem.known for problem in search.of_body(call)):
                    unfit |= {call[0], *_called(model, call[0])}
    return unfit


def _called(model: ir.Model, identifier: ir.OperatorIdentifier) -> Iterator[ir.OperatorIdentifier]:
    waiting, seen = [identifier], {identifier}
    while waiting:
        for node in model.functions[waiting.pop()].all_nodes():
            called = node.op_identifier()
            if called in model.functions and called not in seen:
                seen.add(called)
                waiting.append(called)
                yield called


def _calls(model: ir.Model, wanted: set[ir.OperatorIdentifier]) -> Iterator[Change]:
    for scope in scopes(model):
        for node in scope.graph:
            if node.op_identifier() in wanted:
                label = f"{node.domain}::{node.op_type}: its function is inlined"
                output = node.outputs[0].name or ""
                yield Change(scope.name, node.name or "", label, "function", output)
