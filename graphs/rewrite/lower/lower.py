"""Lowering: nodes that a target cannot run become nodes that it can; others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.errors import TargetError
from gatewave.graphs.ops import formulas
from gatewave.graphs.ops.functions import OPSET
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, compute_dtype
from gatewave.graphs.rewrite.drawing import Constants, Drawing
from gatewave.graphs.rewrite.lower import (
    by_site,
    naive_sinc,
    opsets,
    relu_clip,
    schemas,
    static_ranks,
)
from gatewave.graphs.rewrite.lower.carriers import carriers
from gatewave.graphs.rewrite.lower.conversion import since
from gatewave.graphs.rewrite.lower.expansion import expand
from gatewave.graphs.rewrite.lower.inlining import inline
from gatewave.graphs.rewrite.lower.legality import Legality, gated_by_itself, opset_of, problems
from gatewave.graphs.rewrite.lower.lowerings import (
    OF_ANY_TYPE,
    Lowering,
    identifier_of,
    lowering_of,
    tensors_of,
)
from gatewave.graphs.rewrite.naming import Names
from gatewave.graphs.rewrite.outcome import Change, Outcome
from gatewave.graphs.rewrite.splicing import needed, splice, sweep
from gatewave.graphs.targets import Target

ROUNDS = 4
"""SwiGLU is drawn with Sigmoid, which is drawn with Exp, which is bridged by casts."""

MAX_NAMED = 12
"""Limit on the operators that a change lists by name: `Erf` in float64 becomes a hundred."""


def lower(model: ir.Model, target: Target) -> Outcome:
    """Lower ``model``, in place, to operators that ``target`` runs.

    In this order: operators that it has not get the body that ONNX gives for them, if there is one
    and nothing better; standard operators and file format go to versions that the target reads;
    functions that it does not run as they are, are inlined; operators that it has not, or not in
    that element type, are written in others; forms that it gets wrong get another; and imports of
    domains that are no longer used go.

    Raises:
        ModelError: A node does not fit its operator's schema: see `schemas`.
        TargetError: Something is left that the target is known not to run; the message names it.
    """
    schemas.check(model)
    domains = _domains(model)
    if opset_of(model) is None:
        model.opset_imports[""] = OPSET
    legality = Legality(model, target)
    changes: list[Change] = []
    for step in STEPS:
        changes += step(model, target, legality)
        # Legality infers all types, which was most of the time of an unchanged model. From the
        # first change on it is made anew: `inline` does not report what `expand` has made.
        legality = Legality(model, target) if changes else legality
    changes += [*_format(model, target), *_imports(model, domains)]
    if left := [problem for problem in problems(model, target, legality=legality) if problem.known]:
        listed = "; ".join(
            f"{problem.node}: {problem.why}" if problem.node else problem.why for problem in left
        )
        raise TargetError(f"the model cannot be brought to {target.name}: {listed}")
    return Outcome(changes)


def _widened(model: ir.Model, target: Target, legality: Legality) -> list[Change]:
    return _Rewriting(model, target, legality).widen()


def _converted(model: ir.Model, target: Target, legality: Legality) -> list[Change]:
    return opsets.convert(model, legality.opset, exempt=lambda node: _goes(node, legality, target))


def _rewritten(model: ir.Model, target: Target, legality: Legality) -> list[Change]:
    return _Rewriting(model, target, legality).run()


STEPS: Sequence[Callable[[ir.Model, Target, Legality], list[Change]]] = (
    *(expand, _widened, _converted, inline, static_ranks.state, by_site.rewrite, _rewritten),
)
"""Passes over a model, in order. Each gets the legality of the model as it then is."""


def _goes(node: ir.Node, legality: Legality, target: Target) -> bool:
    """Return true if ``node`` is rewritten because the opset lacks it or its type."""
    if lowering_of(node) is None:
        return False
    return (
        since(node.op_type, legality.opset) is None
        or not target.runs(identifier_of(node), legality.opset, None)
        or bool(legality.disallowed(node, legality.dtype_of(node)))
    )


def _domains(model: ir.Model) -> set[str]:
    return {node.domain for scope in scopes(model) for node in scope.graph}


def _format(model: ir.Model, target: Target) -> Iterator[Change]:
    before = model.ir_version
    model.ir_version = target.ir.nearest(before)
    if model.ir_version != before:
        yield Change("", "", f"IR version {before} → {model.ir_version}", "ir")


def _imports(model: ir.Model, before: set[str]) -> Iterator[Change]:
    """Imports of domains that were used, and no longer are."""
    after = _domains(model) | {function.domain for function in model.functions.values()}
    for domain in sorted(before - after - {"", "ai.onnx"}):
        for imports in (model.opset_imports, *(f.opset_imports for f in model.functions.values())):
            if imports.pop(domain, None) is not None:
                yield Change("", "", f"the import of {domain} is no longer needed", "import")


class _Rewriting:
    """One walk over the main graph and its bodies."""

    def __init__(self, model: ir.Model, target: Target, legality: Legality) -> None:
        self._model = model
        self._target = target
        self._legality = legality
        self._names = Names(model)
        self._constants = Constants(model, self._names)

    def run(self) -> list[Change]:
        """Repeat until a pass makes no change: new nodes may themselves need a lowering."""
        changes: list[Change] = []
        for _ in range(ROUNDS):
            found = [change for step in self._steps() for change in step]
            if not found:
                break
            changes += found
            self._legality = Legality(self._model, self._target)
        return changes

    def widen(self) -> list[Change]:
        """Compute in wider element types if the target's opset does not allow the narrow ones."""
        return [
            self._bridged(scope, node, kind, carrier)
            for scope in list(scopes(self._model))
            if not scope.name.startswith("function ")
            for node in list(scope.graph)
            if self._legality.disallowed(node, kind := self._legality.dtype_of(node))
            and (carrier := self._carrier(node, kind)) is not None
        ]

    def _steps(self) -> Iterator[Iterator[Change]]:
        for step in (self._rewritten, self._reformed):
            for scope in list(scopes(self._model)):
                if not scope.name.startswith("function "):
                    for node in list(scope.graph):
                        yield step(scope, node)

    def _rewritten(self, scope: Scope, node: ir.Node) -> Iterator[Change]:
        kind = self._legality.dtype_of(node)
        if self._legality.is_naive_sinc(node):
            what = "the form of Sinc that is right near 0"
            yield self._draw(
                scope, node, kind, _robust_sinc, what, operands=naive_sinc.operands(node)
            )
        elif self._legality.refusal(node, kind):
            lowering = lowering_of(node)
            if (carrier := self._carrier(node, kind)) is not None:
                yield self._bridged(scope, node, kind, carrier)
            elif lowering is not None:
                yield self._draw(scope, node, kind, lowering, "")

    def _reformed(self, scope: Scope, node: ir.Node) -> Iterator[Change]:
        kind = self._legality.types.get(node.outputs[0]) or self._legality.dtype_of(node)
        if (relu := self._legality.relu_before(node, kind)) is not None:
            operands = [relu.inputs[0], *node.inputs[1:]]
            what = "Clip of what Relu is given, with a min of at least 0"
            yield self._draw(scope, node, kind, relu_clip.merged, what, operands=operands)
        elif self._legality.is_misfused(node, kind):
            yield self._draw(scope, node, kind, _unfused, "-(-x · σ(αx)), which is not misfused")

    def _carrier(self, node: ir.Node, kind: ir.DataType | None) -> ir.DataType | None:
        """Return the nearest element type in which ``node`` runs and gives the same result."""
        found = carriers(node, kind, self._legality.opset)
        return next((other for other in found if not self._legality.refusal(node, other)), None)

    def _bridged(
        self, scope: Scope, node: ir.Node, kind: ir.DataType | None, carrier: ir.DataType
    ) -> Change:
        what = f"{node.op_type} in {_name(carrier)}"
        return self._draw(scope, node, kind, _itself, what, carrier=carrier)

    def _draw(
        self,
        scope: Scope,
        node: ir.Node,
        kind: ir.DataType | None,
        lowering: Lowering,
        what: str,
        *,
        carrier: ir.DataType | None = None,
        operands: Sequence[ir.Value | None] | None = None,
    ) -> Change:
        """Replace the node by the nodes that ``lowering`` draws on ``operands`` or on its inputs.

        They compute in ``carrier``, between casts; 16-bit floats in float32.
        """
        if kind is None or (
            carrier is None and kind not in NAMES and identifier_of(node) not in OF_ANY_TYPE
        ):
            raise TargetError(_why_not(node, kind))
        wide = carrier or (ONNX_TYPES[compute_dtype(NAMES[kind])] if kind in NAMES else kind)
        op = Drawing(node, wide, self._opset(scope), self._names, self._constants)
        narrow = wide != kind
        given = node.inputs if operands is None else operands
        drawn = lowering(op, node, self._widened(op, node, kind, wide, given) if narrow else given)
        pairs = [
            (old, self._finished(op, old, new, kind, narrow=narrow))
            for old, new in zip(node.outputs, drawn, strict=False)  # the last may not be asked for
            if old.name
        ]
        results = [new for _, new in pairs]
        output = node.outputs[0].name or ""
        # Nodes further on take the new values, and are checked before types are inferred again.
        known = self._legality.types
        known |= {new: known[old] for old, new in pairs if old in known}
        inputs = list(node.inputs)
        splice(scope.graph, [node], needed(op.nodes, results), pairs)
        sweep(scope.graph, inputs)
        label = what or f"{node.op_type} → {_drawn(op)}"
        label += f", cast from {_name(kind)} to {_name(wide)} and back" if narrow else ""
        return Change(scope.name, node.name or output, label, node.op_type.lower(), output)

    def _opset(self, scope: Scope) -> int:
        return scope.opsets.get("", 1)

    def _widened(
        self,
        op: Drawing,
        node: ir.Node,
        kind: ir.DataType,
        wide: ir.DataType,
        operands: Sequence[ir.Value | None],
    ) -> Sequence[ir.Value | None]:
        """Return the operands; those of the node's element type are cast to ``wide``."""
        conditions = int(identifier_of(node) == ("", "Where") and kind == ir.DataType.BOOL)

        def cast(index: int, value: ir.Value | None) -> ir.Value | None:
            if value is None or not conditions <= index < tensors_of(node):
                return value
            if (value.dtype or self._legality.types.get(value, kind)) != kind:
                return value
            return op.node("Cast", [value], to=wide.value)

        return [cast(index, value) for index, value in enumerate(operands)]

    def _finished(
        self, op: Drawing, output: ir.Value, value: ir.Value, kind: ir.DataType, *, narrow: bool
    ) -> ir.Value:
        """Return the replacement of ``output``, made from ``value``."""
        if narrow and self._is(output, kind):
            return op.node("Cast", [value], to=kind.value)
        if value.producer() not in op.nodes:  # an input, given back as it came
            return op.node("Identity", [value])
        return value

    def _is(self, output: ir.Value, kind: ir.DataType) -> bool:
        """Return true if ``output`` has the computed type; false for conditions and indices."""
        known = output.dtype or self._legality.types.get(output)
        if known is None and output.index():
            raise TargetError(
                f"the element type of {output.name!r} is not known; declare it, or run "
                "onnx.shape_inference"
            )
        return known in (None, kind)


def _name(kind: ir.DataType) -> str:
    return NAMES.get(kind) or kind.name.lower()


def _why_not(node: ir.Node, kind: ir.DataType | None) -> str:
    label = f"{node.op_type} {node.name or node.outputs[0].name!r}"
    if kind is not None:
        return f"{label}: in {_name(kind)}, it is not written in other operators"
    name = next((value.name for value in node.inputs if value is not None), "")
    return (
        f"{label}: the element type of {name!r} is not known; declare it, or run "
        "onnx.shape_inference"
    )


def _drawn(op: Drawing) -> str:
    names = [node.op_type for node in op.nodes if node.op_type not in ("Cast", "Constant")]
    more = len(names) - MAX_NAMED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MAX_NAMED])} and {more} more"


def _itself(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The same operator, on other inputs."""
    return tuple(op.again(node, inputs))


def _unfused(op: Any, node: ir.Node, _: Sequence[Any]) -> tuple[Any, ...]:
    found = gated_by_itself(node)
    assert found is not None  # noqa: S101 - that is how the node was chosen
    return (formulas.unfused(op, *found),)


def _robust_sinc(op: Any, _: ir.Node, operands: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.cardinal_sine(op, *operands),)
