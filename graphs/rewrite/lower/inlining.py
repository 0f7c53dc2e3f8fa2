"""Functions put where they are called, if the target does not run them as they are."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes import common as passes

from gatewave.graphs.analysis.element_types import values
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower import expansion
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.naming import settle
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.targets import Target


def inline(model: ir.Model, target: Target, legality: Legality) -> list[Change]:
    """Inline every function with a node that ``target`` does not run; all if it runs no functions.

    Raises:
        TargetError: A function calls itself, or cannot be inlined for another reason.
    """
    wanted = set(model.functions) if not target.functions else _unfit(model, legality)
    made = {identifier for identifier in model.functions if identifier[0] == expansion.DOMAIN}
    if not (wanted := wanted | made):
        return []
    changes = list(_calls(model, wanted - made))
    originals = set(values(model.graph))
    try:
        passes.InlinePass(lambda function: function.identifier() in wanted)(model)
    except (ValueError, ir.passes.PassError) as error:
        raise TargetError(f"{target.name}: a function cannot be inlined: {error}") from error
    settle(model, originals)
    for identifier in wanted & set(model.functions):
        del model.functions[identifier]  # nobody calls it
    model.opset_imports.pop(expansion.DOMAIN, None)
    return changes


def _unfit(model: ir.Model, legality: Legality) -> set[ir.OperatorIdentifier]:
    """The functions that have a problem as they are called, and those that call such."""
    unfit: set[ir.OperatorIdentifier] = set()
    for scope in scopes(model):
        if not scope.name.startswith("function "):
            for node in scope.graph:
                call = legality.call(node, legality.types)
                if call is not None and any(problem.known for problem in legality.of_body(call)):
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
