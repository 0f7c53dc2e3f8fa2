"""What goes into a model and comes out: names, types and shapes; and where two models disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gatewave.export.channel import Array

LAST_IR_OF_WEIGHTS = 3
"""Up to this IR version all initializers had to be inputs too: there, they are weights."""

Size = int | str | None
"""Of an axis: fixed, of that name, or open."""


@dataclass(frozen=True)
class Port:
    """An input or an output.

    Attributes:
        name: As the model has it.
        dtype: Of the tensor, or of the tensors in the sequence; ``string`` and ``bool`` too.
        wrapped: ``sequence``, ``optional``, ``other``, or empty for a plain tensor.
        shape: ``None`` where even the rank is open.
        default: What an input is where nothing is given.
    """

    name: str
    dtype: str
    wrapped: str
    shape: tuple[Size, ...] | None
    default: Array | None = None

    def __str__(self) -> str:
        axes = "of any rank" if self.shape is None else f"[{', '.join(map(_word, self.shape))}]"
        kind = f"{self.wrapped} of {self.dtype}" if self.wrapped else self.dtype
        return f"{kind} {axes}"


def _word(size: Size) -> str:
    return "?" if size is None else str(size)


def inputs_of(model: ir.Model) -> list[Port]:
    """What a caller gives, with defaults for what may be left out."""
    graph = model.graph
    weights = graph.initializers if (model.ir_version or 0) <= LAST_IR_OF_WEIGHTS else {}
    return [_port(value) for value in graph.inputs if value.name not in weights]


def outputs_of(model: ir.Model) -> list[Port]:
    return [_port(value) for value in model.graph.outputs]


def _port(value: ir.Value) -> Port:
    tensor = value.const_value
    kind, wrapped = value.type, ""
    while isinstance(kind, ir.SequenceType | ir.OptionalType):
        wrapped = wrapped or ("sequence" if isinstance(kind, ir.SequenceType) else "optional")
        kind = kind.elem_type
    dtype = "unknown" if not isinstance(kind, ir.TensorType) else _dtype_name(kind.dtype)
    if dtype == "unknown" and not wrapped:
        wrapped = "other"
    default = None if tensor is None else tensor.numpy()
    return Port(value.name or "", dtype, wrapped, _shape(value), default)


def _dtype_name(dtype: ir.DataType) -> str:
    if dtype == ir.DataType.UNDEFINED:
        return "unknown"
    return "string" if dtype == ir.DataType.STRING else dtype.numpy().name


def _shape(value: ir.Value) -> tuple[Size, ...] | None:
    if value.shape is None:
        return None
    return tuple(_size(dim) for dim in value.shape)


def _size(dim: int | ir.SymbolicDim) -> Size:
    if isinstance(dim, int):
        return dim if dim >= 0 else None  # -1: some exporters write it for an open one
    return dim.value


def disagreements(original: ir.Model, rewritten: ir.Model) -> list[str]:
    """In words, each difference in what goes in and comes out that a caller would notice."""
    return [
        *_unlike("input", inputs_of(original), inputs_of(rewritten)),
        *_unlike("output", outputs_of(original), outputs_of(rewritten)),
    ]


def _unlike(kind: str, ones: Sequence[Port], others: Sequence[Port]) -> Iterator[str]:
    names, renamed = [port.name for port in ones], [port.name for port in others]
    if names != renamed:
        yield f"the {kind}s are {', '.join(renamed) or 'none'}, not {', '.join(names) or 'none'}"
        return
    for one, other in zip(ones, others, strict=True):
        if not _compatible(one, other) or (kind == "input" and _is_narrower(one, other)):
            yield f"{kind} {one.name} is {other}, not {one}"
        elif (one.default is None) != (other.default is None):
            has, had = ("has a default", "none") if one.default is None else ("has none", "one")
            yield f"{kind} {one.name} {has}, and had {had}"


def _compatible(one: Port, other: Port) -> bool:
    """Whether one stands for the other: an open axis, or one by another name, for any size."""
    if (one.dtype, one.wrapped) != (other.dtype, other.wrapped):
        return one.dtype == "unknown" or other.dtype == "unknown"
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(one.shape, other.shape, strict=True)
    )


def _is_narrower(one: Port, other: Port) -> bool:
    """Whether an axis that was open has been given a size."""
    return any(
        isinstance(now, int) and not isinstance(before, int)
        for before, now in zip(one.shape or (), other.shape or (), strict=False)
    )
