"""Rewriting of single nodes: in wider element types, other operators, or other forms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.errors import TargetError
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, compute_dtype
from gatewave.graphs.rewrite.editing.drawing import Drawing
from gatewave.graphs.rewrite.editing.editor import Editor
from gatewave.graphs.rewrite.lower.legality import Legality, dtype_name
from gatewave.graphs.rewrite.lower.lowerings import (
    OF_ANY_TYPE,
    Lowering,
    identifier_of,
    lowering_of,
    tensors_of,
)
from gatewave.graphs.rewrite.lower.wider_types import wider_types
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.targets import Target

ROUNDS = 4
"""Limit on the passes of `rewrite`.

SwiGLU is drawn with Sigmoid, which is drawn with Exp, which is bridged by casts.
"""

MAX_NAMED = 12
"""Limit on the operators that a change lists by name: `Erf` in float64 becomes a hundred."""


def widen(model: ir.Model, _: Target, legality: Legality) -> list[Change]:
    """Compute in wider element types if the target's opset does not allow the narrow ones."""
    return _NodeRewriting(Editor(model), legality).widen()


def rewrite(model: ir.Model, _: Target, legality: Legality) -> list[Change]:
    """Rewrite nodes that the target refuses or gets wrong, until no change is made.

    Raises:
        TargetError: The element type of a node is not known, or the lowering does not hold for it.
    """
    editor = Editor(model)
    changes: list[Change] = []
    for _round in range(ROUNDS):
        found = _NodeRewriting(editor, legality).run()
        if not found:
            break
        changes += found
        legality = Legality(model, legality.target)  # new nodes may themselves need a lowering
    return changes


class _NodeRewriting:
    """One walk over the nodes of the main graph and its bodies.

    Functions are not rewritten: those with a node that the target does not run were inlined.
    """

    def __init__(self, editor: Editor, legality: Legality) -> None:
        self._editor = editor
        self._legality = legality

    def run(self) -> list[Change]:
        return [
            change
            for step in (self._rewritten, self._reformed)
            for scope, node in self._nodes()
            for change in step(scope, node)
        ]

    def widen(self) -> list[Change]:
        return [
            self._bridged(scope, node, dtype, wide)
            for scope, node in self._nodes()
            if self._legality.disallowed(node, dtype := self._legality.dtype_of(node))
            and (wide := self._wider(node, dtype)) is not None
        ]

    def _nodes(self) -> Iterator[tuple[Scope, ir.Node]]:
        for scope in list(scopes(self._editor.model)):
            for node in () if scope.in_function else list(scope.graph):
                yield scope, node

    def _rewritten(self, scope: Scope, node: ir.Node) -> Iterator[Change]:
        dtype = self._legality.dtype_of(node)
        form = self._legality.defective_form(node, dtype)
        if form is not None and form[0].before_lowering:
            yield self._draw(scope, node, dtype, form[0].lowering, form[0].what, operands=form[1])
        elif self._legality.refusal(node, dtype):
            lowering = lowering_of(node)
            if (wide := self._wider(node, dtype)) is not None:
                yield self._bridged(scope, node, dtype, wide)
            elif lowering is not None:
                yield self._draw(scope, node, dtype, lowering, "")

    def _reformed(self, scope: Scope, node: ir.Node) -> Iterator[Change]:
        # The output's type is known for nodes that were just drawn on new inputs.
        dtype = self._legality.types.get(node.outputs[0]) or self._legality.dtype_of(node)
        form = self._legality.defective_form(node, dtype)
        if form is not None and not form[0].before_lowering:
            yield self._draw(scope, node, dtype, form[0].lowering, form[0].what, operands=form[1])

    def _wider(self, node: ir.Node, kind: ir.DataType | None) -> ir.DataType | None:
        """Return the nearest element type in which ``node`` runs and gives the same result."""
        found = wider_types(node, kind, self._legality.opset)
        return next((other for other in found if not self._legality.refusal(node, other)), None)

    def _bridged(
        self, scope: Scope, node: ir.Node, kind: ir.DataType | None, wide: ir.DataType
    ) -> Change:
        what = f"{node.op_type} in {dtype_name(wide)}"
        return self._draw(scope, node, kind, _itself, what, wide=wide)

    def _draw(
        self,
        scope: Scope,
        node: ir.Node,
        kind: ir.DataType | None,
        lowering: Lowering,
        what: str,
        *,
        wide: ir.DataType | None = None,
        operands: Sequence[ir.Value | None] | None = None,
    ) -> Change:
        """Replace the node by the nodes that ``lowering`` draws on ``operands`` or on its inputs.

        They compute in ``wide``, between casts; 16-bit floats in float32.
        """
        if kind is None or (
            wide is None and kind not in NAMES and identifier_of(node) not in OF_ANY_TYPE
        ):
            raise TargetError(_why_not(node, kind))
        wide = wide or (ONNX_TYPES[compute_dtype(NAMES[kind])] if kind in NAMES else kind)
        op = self._editor.drawing(node, scope, wide)
        narrow = wide != kind
        given = node.inputs if operands is None else operands
        drawn = lowering(op, node, self._widened(op, node, kind, wide, given) if narrow else given)
        pairs = [
            (old, self._finished(op, old, new, kind, narrow=narrow))
            # Trailing outputs may be left out, others have an empty name.
            for old, new in zip(node.outputs, drawn, strict=False)
            if old.name
        ]
        results = [new for _, new in pairs]
        output = node.outputs[0].name or ""
        # Nodes further on take the new values, and are checked before types are inferred again.
        known = self._legality.types
        known |= {new: known[old] for old, new in pairs if old in known}
        inputs = list(node.inputs)
        self._editor.replace(node, op.needed(results), pairs)
        self._editor.sweep(inputs)
        label = what or f"{node.op_type} → {_drawn(op)}"
        label += f", cast from {dtype_name(kind)} to {dtype_name(wide)} and back" if narrow else ""
        return Change(scope.name, node.name or output, label, node.op_type.lower(), output)

    def _widened(
        self,
        op: Drawing,
        node: ir.Node,
        kind: ir.DataType,
        wide: ir.DataType,
        operands: Sequence[ir.Value | None],
    ) -> Sequence[ir.Value | None]:
        """Return the operands; those of the node's element type are cast to ``wide``."""
        # A Where of booleans has its condition in the same type; the condition must stay boolean.
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
        return op.result(value)

    def _is(self, output: ir.Value, kind: ir.DataType) -> bool:
        """Return true if ``output`` has the computed type; false for conditions and indices."""
        known = output.dtype or self._legality.types.get(output)
        if known is None and output.index():
            raise TargetError(
                f"the element type of {output.name!r} is not known; declare it, or run "
                "onnx.shape_inference"
            )
        return known in (None, kind)


def _why_not(node: ir.Node, kind: ir.DataType | None) -> str:
    label = f"{node.op_type} {node.name or node.outputs[0].name!r}"
    if kind is not None:
        return f"{label}: in {dtype_name(kind)}, it is not written in other operators"
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
    return tuple(op.copy(node, inputs))
