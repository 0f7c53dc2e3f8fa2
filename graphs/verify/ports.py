"""Inputs and outputs of a model: names, types and shapes, and the disagreements of two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gatewave.graphs.processes.messages import Array

LAST_IR_OF_WEIGHTS = 3
"""Up to this IR version all initializers had to be inputs too: there, they are weights."""

Size = int | str | None
"""Size of an axis: fixed, of that name, or open."""


@dataclass(frozen=True)
class Port:
    """An input or an output.

    Attributes:
        name: Name in the model.
        dtype: Element type, also of the tensors in a sequence; ``string`` and ``bool`` too.
        wrapped: ``sequence``, ``optional``, ``other``, or empty for a plain tensor.
        shape: The shape; ``None`` if even the rank is open.
        default: Value of an input that is not given.
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
    """Return the inputs that a caller gives; optional ones have defaults."""
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
        return dim if dim >= 0 else None  # some exporters write -1 for an open axis
    return dim.value


def disagreements(original: ir.Model, rewritten: ir.Model) -> list[str]:
    """Describe each difference in inputs and outputs that a caller would notice."""
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
    """Return true if the ports are compatible: an open or renamed axis stands for any size."""
    if (one.dtype, one.wrapped) != (other.dtype, other.wrapped):
        return one.dtype == "unknown" or other.dtype == "unknown"
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(one.shape, other.shape, strict=True)
    )


def _is_narrower(one: Port, other: Port) -> bool:
    """Return true if an open axis of ``one`` has a fixed size in ``other``."""
    return any(
        isinstance(now, int) and not isinstance(before, int)
        for before, now in zip(one.shape or (), other.shape or (), strict=False)
    )
