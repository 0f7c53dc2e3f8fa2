"""Roles of a model's inputs: indices, lengths, and numbers compared with thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.thresholds import MAX_COMPARED

THROUGH = frozenset(
    {
        "Cast",
        "CastLike",
        "Clip",
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "If",
        "Loop",
        "Mod",
        "Pad",
        "Reshape",
        "Scan",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""Operators that pass the elements of their input on."""

INDICES: Mapping[str, int] = {
    "Gather": 1,
    "GatherElements": 1,
    "GatherND": 1,
    "ScatterElements": 1,
    "ScatterND": 1,
    "OneHot": 0,
    "EmbedLayerNormalization": 0,
}
"""Number of the input that holds indices, by operator."""

LENGTHS: Mapping[str, int] = {"LSTM": 4, "GRU": 4, "RNN": 4, "ReverseSequence": 1}
COUNTS: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "ConstantOfShape": (0,),
    "TopK": (1,),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Loop": (0,),
}


COMPARING = frozenset(
    {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Clip", "Equal"}
)
"""Operators that act differently on the two sides of a number."""


@dataclass
class InputMeaning:
    """Known facts about an input; for floats, `thresholds` only.

    Attributes:
        bound: Its elements are indices below this.
        choices: Numbers that they are compared with.
        length: They are lengths of sequences.
        count: They are sizes or repetitions.
        thresholds: Numbers at which the model turns to something else.
    """

    bound: int | None = None
    choices: set[int] = field(default_factory=set)
    length: bool = False
    count: bool = False
    thresholds: set[float] = field(default_factory=set)

    @property
    def is_free(self) -> bool:
        """Return true if any number is valid."""
        return not (self.choices or self.length or self.count) and self.bound is None

    def narrow(self, bound: int) -> None:
        self.bound = bound if self.bound is None else min(self.bound, bound)


def meaning_of(value: ir.Value, model: ir.Model) -> InputMeaning:
    """Return the facts that the graph implies about ``value``, one of its inputs."""
    meaning = InputMeaning()
    if "mask" in (value.name or "").lower():
        meaning.choices |= {0, 1}
    for reached in _reached(value, model):
        for node, index in reached.uses():
            _learn(meaning, node, index)
    return meaning


def _reached(value: ir.Value, model: ir.Model) -> Iterator[ir.Value]:
    """Yield the value and all values that hold its elements, inside functions too."""
    open_, seen = [value], {value}
    while open_:
        current = open_.pop()
        yield current
        for found in (v for use in current.uses() for v in _onward(*use, model)):
            if found not in seen:
                seen.add(found)
                open_.append(found)


def _onward(node: ir.Node, index: int, model: ir.Model) -> list[ir.Value]:
    function = model.functions.get(node.op_identifier())
    if function is not None:
        return [function.inputs[index]] if index < len(function.inputs) else []
    if node.op_type in THROUGH and INDICES.get(node.op_type) != index:
        return list(node.outputs)
    return []


def _learn(meaning: InputMeaning, node: ir.Node, index: int) -> None:
    if node.op_type in COMPARING:
        others = [constant(v) for other, v in enumerate(node.inputs) if other != index]
        few = [found for found in others if found is not None and found.size <= MAX_COMPARED]
        meaning.thresholds |= {float(number) for found in few for number in found.flat}
    if INDICES.get(node.op_type) == index:
        meaning.narrow(_bound(node))
    elif LENGTHS.get(node.op_type) == index:
        meaning.length = True
    elif index in COUNTS.get(node.op_type, ()):
        meaning.count = True
    elif node.op_type == "Equal":
        other = constant(node.inputs[1 - index])
        if other is not None and other.size <= MAX_COMPARED:
            numbers = {int(number) for number in other.flat}
            meaning.choices |= numbers | {number + 1 for number in numbers}  # and something else


def _bound(node: ir.Node) -> int:
    """Return the bound of valid indices of ``node``; 1 if it is not known."""
    if node.op_type == "OneHot":
        depth = constant(node.inputs[1])
        return 1 if depth is None else max(1, int(depth.flat[0]))
    table = node.inputs[2] if node.op_type == "EmbedLayerNormalization" else node.inputs[0]
    shape = table.shape if table is not None else None
    if shape is None:
        return 1
    sizes = [dim if isinstance(dim, int) else 1 for dim in shape]
    if node.op_type.startswith(("GatherND", "ScatterND")):
        return max(1, min(sizes, default=1))
    axis = node.attributes.get_int("axis", 0)
    return max(1, sizes[axis]) if -len(sizes) <= axis < len(sizes) else 1


def constant(value: ir.Value | None) -> Array | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
