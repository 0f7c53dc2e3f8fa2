"""Lowering: nodes that a target cannot run become nodes that it can; others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnx_ir as ir

from gatewave.graphs.analysis.scopes import standard_opset
from gatewave.graphs.errors import TargetError
from gatewave.graphs.ops.functions import OPSET
from gatewave.graphs.rewrite.editing.editor import domains, drop_imports
from gatewave.graphs.rewrite.lower import (
    activations,
    inlining,
    operators,
    opset_conversion,
    schema_check,
    standard_bodies,
    static_ranks,
)
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.lower.problems import problems
from gatewave.graphs.rewrite.outcome import Change, Outcome
from gatewave.graphs.targets import Target

Pass = Callable[[ir.Model, Target, Legality], list[Change]]
"""Changes a model in place for a target; gets the legality of the model as it then is."""

PASSES: Sequence[Pass] = (
    # Bodies of operators come first: their nodes are widened and converted like any other.
    standard_bodies.use_bodies,
    # Before the conversion, which refuses nodes in element types that the new opset does not allow.
    operators.widen,
    opset_conversion.convert_for,
    # After the conversion, so that function bodies are already in the model's opset.
    inlining.inline,
    static_ranks.make_ranks_static,
    # Whole activations before their operators, which recognition would no longer find.
    activations.replace_activations,
    operators.rewrite,
)
"""The passes, in order."""


def lower(model: ir.Model, target: Target) -> Outcome:
    """Lower ``model``, in place, to operators that ``target`` runs.

    In this order: operators that it does not have get the body that ONNX gives for them, if there
    is one and nothing better; standard operators and file format go to versions that the target
    reads; functions that it does not run as they are, are inlined; operators that it does not
    have, or not in that element type, are written in others; forms that it gets wrong get another;
    and imports of domains that are no longer used go.

    Raises:
        ModelError: A node does not fit its operator's schema: see `schema_check`.
        TargetError: Something is left that the target is known not to run; the message names it.
    """
    schema_check.check(model)
    before = domains(model)
    if standard_opset(model.opset_imports) is None:
        model.opset_imports[""] = OPSET
    legality = Legality(model, target)
    changes: list[Change] = []
    for run in PASSES:
        changes += run(model, target, legality)
        # Legality infers all types, which was most of the time of an unchanged model. From the
        # first change on it is made anew: `inline` does not report what `use_bodies` has made.
        legality = Legality(model, target) if changes else legality
    changes += _set_ir_version(model, target)
    for domain in drop_imports(model, before):
        changes.append(Change("", "", f"the import of {domain} is no longer needed", "import"))
    if left := [problem for problem in problems(model, target, legality=legality) if problem.known]:
        listed = "; ".join(
            f"{problem.node}: {problem.why}" if problem.node else problem.why for problem in left
        )
        raise TargetError(f"the model cannot be brought to {target.name}: {listed}")
    return Outcome(changes)


def _set_ir_version(model: ir.Model, target: Target) -> Iterator[Change]:
    before = model.ir_version
    model.ir_version = target.ir.nearest(before)
    if model.ir_version != before:
        yield Change("", "", f"IR version {before} → {model.ir_version}", "ir")
