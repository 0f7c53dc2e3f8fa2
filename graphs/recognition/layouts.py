"""Layout of the two inputs of a gated unit: separate, or packed in one tensor."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from gatewave.graphs.analysis.shapes import Shapes, SlicedAxis, sliced

SEPARATE = "separate"
GATE_IS_SECOND = ("glu",)
"""Kinds whose second input is the gate; for all others it is the first."""

UNMOVED = ("Squeeze", "Reshape", "Cast", "Identity", "Flatten")
"""Operators that may follow the slice of a tensor."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of ``whole``: its range, and whether the parts alternate.

    Places are as Python's slices have them: negative ones are counted from the end. They are those
    of an axis, or of the parts of one `Split`.
    """

    whole: ir.Value
    begin: int
    end: int
    alternating: bool
    within: int | ir.Node | None = None


def layout(kind: str, inputs: tuple[ir.Value, ...], known: Shapes) -> str:
    """``separate``, ``packed halves, gate first`` or ``last``, or ``interleaved``, likewise.

    Empty for one input.
    """
    if len(inputs) == 1:
        return ""
    gate, other = (
        _part(v, known) for v in (reversed(inputs) if kind in GATE_IS_SECOND else inputs)
    )
    if gate is None or other is None or gate.whole is not other.whole:
        return SEPARATE
    if (gate.alternating, gate.within) != (other.alternating, other.within):
        return SEPARATE
    name = "interleaved" if gate.alternating else "packed halves"
    for first, second, place in ((gate, other, "first"), (other, gate, "last")):
        if _follow(first, second):
            return f"{name}, gate {place}"
    return SEPARATE


def _follow(first: Part, second: Part) -> bool:
    """Return true if ``second`` begins where ``first`` ends; alternating parts begin one later."""
    if first.alternating:
        return second.begin == first.begin + 1
    return second.begin == first.end


def _part(value: ir.Value, known: Shapes) -> Part | None:
    node = value.producer()
    while node is not None and node.domain == "" and node.op_type in UNMOVED and node.inputs:
        source = node.inputs[0]
        node = None if source is None else source.producer()
        value = value if source is None else source
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    whole = node.inputs[0]
    if node.op_type == "Split" and len(node.outputs) == 2:  # noqa: PLR2004
        paired, index = _paired(whole, known), value.index() or 0
        # Parts by num_outputs are equal if their product is valid: only the last may be smaller.
        if not known.splits_evenly(node) and "num_outputs" not in node.attributes:
            return None
        return Part(paired or whole, index, index + 1, paired is not None, node)
    if node.op_type == "Slice":
        return _slice(whole, sliced(node, known))
    if node.op_type == "Gather":
        paired, indices = _paired(whole, known), known.integers(node.inputs[1])
        if paired is not None and indices is not None and len(indices) == 1:
            index = indices[0] % 2
            return Part(paired, index, index + 1, alternating=True)
    return None


def _slice(whole: ir.Value, axis: SlicedAxis | None) -> Part | None:
    """Return the half, or the every other element, of one axis that a slice takes.

    If the size of the axis is not known, the second half starts where the first half ends.
    """
    if axis is None or axis.step > 2:  # noqa: PLR2004
        return None
    begin, end = axis.begin, axis.end
    if axis.size is not None:
        begin, end, _ = slice(begin, end, axis.step).indices(axis.size)
        if axis.step == 1 and 2 * (end - begin) != axis.size:
            return None
    return Part(whole, begin, end, axis.step == 2, axis.number)  # noqa: PLR2004


def _paired(value: ir.Value, known: Shapes) -> ir.Value | None:
    """Return the operand of a `Reshape` to pairs, whose last axis is 2."""
    node = value.producer()
    if node is None or node.op_type != "Reshape" or node.domain != "":
        return None
    sizes = known.integers(node.inputs[1]) if len(node.inputs) > 1 else None
    return node.inputs[0] if sizes and sizes[-1] == 2 else None  # noqa: PLR2004
