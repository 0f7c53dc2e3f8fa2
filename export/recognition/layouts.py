"""How the two inputs of a gated unit lie in memory: apart, or packed in one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

SEPARATE = "separate"
GATE_IS_SECOND = ("glu",)
"""Of these the second input is the gate; of all others, the first."""

UNMOVED = ("Squeeze", "Reshape", "Cast", "Identity", "Flatten")
"""What may follow the part of a tensor that is taken."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of ``whole``: which it is, in order, and whether the parts alternate."""

    whole: ir.Value
    place: float
    alternating: bool


def layout(kind: str, inputs: tuple[ir.Value, ...]) -> str:
    """``separate``, ``packed halves, gate first`` or ``last``, or ``interleaved``, likewise.

    Empty for one input.
    """
    if len(inputs) == 1:
        return ""
    gate, other = reversed(inputs) if kind in GATE_IS_SECOND else inputs
    parts = [_part(gate), _part(other)]
    if parts[0] is None or parts[1] is None or parts[0].whole is not parts[1].whole:
        return SEPARATE
    name = "interleaved" if parts[0].alternating else "packed halves"
    return f"{name}, gate {'first' if parts[0].place < parts[1].place else 'last'}"


def _part(value: ir.Value) -> Part | None:
    node = value.producer()
    while node is not None and node.domain == "" and node.op_type in UNMOVED and node.inputs:
        source = node.inputs[0]
        node = None if source is None else source.producer()
        value = value if source is None else source
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    whole = node.inputs[0]
    if node.op_type == "Split" and len(node.outputs) == 2:  # noqa: PLR2004
        paired = _paired(whole)
        return Part(paired or whole, float(value.index() or 0), paired is not None)
    if node.op_type == "Slice":
        start, step = _slice(node)
        return None if start is None else Part(whole, start, step == 2)  # noqa: PLR2004
    if node.op_type == "Gather":
        paired, index = _paired(whole), _numbers(node, 1)
        if paired is not None and index is not None and len(index) == 1:
            return Part(paired, index[0], alternating=True)
    return None


def _paired(value: ir.Value) -> ir.Value | None:
    """What a `Reshape` to pairs was made of: the last axis is 2."""
    node = value.producer()
    if node is None or node.op_type != "Reshape" or node.domain != "":
        return None
    sizes = _numbers(node, 1)
    return node.inputs[0] if sizes and sizes[-1] == 2 else None  # noqa: PLR2004


def _slice(node: ir.Node) -> tuple[float | None, float]:
    """Where a slice of one axis begins, and its step; attributes before opset 10."""
    if "starts" in node.attributes:
        starts: Any = node.attributes["starts"].as_ints()
        steps: Any = (1,)
    else:
        starts = _numbers(node, 1)
        steps = _numbers(node, 4) or [1]
    if starts is None or len(starts) != 1:
        return None, 1
    # Counted from the end, it is the later part.
    return (starts[0] if starts[0] >= 0 else 2**62), steps[0]


def _numbers(node: ir.Node, index: int) -> list[float] | None:
    value = node.inputs[index] if len(node.inputs) > index else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else [float(n) for n in tensor.numpy().ravel()]
