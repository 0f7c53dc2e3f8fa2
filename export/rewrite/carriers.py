"""Wider element types in which an operator gives the same: for those that a target lacks.

A node of int8 whose target has int32 only is computed in int32, between casts. The cast back takes
the low bits, so that sums and products that overflow come out as they do in the narrow type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from export.graph_ops import ONNX_TYPES
from export.model_files.element_types import bodies
from export.rewrite.conversion import takes_tensors
from export.rewrite.replaceable import identifier_of

NARROW_FLOATS = frozenset({ONNX_TYPES["float16"], ONNX_TYPES["bfloat16"]})

I8, I16, I32, I64 = (ir.DataType[f"INT{bits}"] for bits in (8, 16, 32, 64))
U8, U16, U32, U64 = (ir.DataType[f"UINT{bits}"] for bits in (8, 16, 32, 64))

WIDER: Mapping[ir.DataType, tuple[ir.DataType, ...]] = {
    **dict.fromkeys((I8, I16, U8, U16), (I32, I64)),
    U32: (I64,),
}
"""Integers that hold every number of the narrow type."""

HOLDING = frozenset(
    {
        *("Add", "Sub", "Mul", "Neg", "Sum", "CumSum", "Where", "PRelu"),
        *("Abs", "Clip", "Div", "Max", "Min", "Mod", "Relu", "Sign"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    }
)
"""Operators that give the same in integers that hold every number of the narrow type."""

REINTERPRETING = frozenset({"Add", "Sub", "Mul", "CumSum", "Where", "Equal"})
"""Those that give the same bits, whether they take 64 of them with a sign or without."""

OF_TRUTH = frozenset({"Where", "ReduceMax", "ReduceMin"})
"""Those that give the same of 0 and 1 as of false and true."""

SHIFTS: Mapping[ir.DataType, tuple[ir.DataType, ...]] = dict.fromkeys((U8, U16), (U32, U64))
"""`BitShift` has no signed integers."""


def carriers(node: ir.Node, kind: ir.DataType | None, opset: int) -> Iterator[ir.DataType]:
    """The element types that may stand in for ``kind`` at ``node``, the nearest first."""
    if kind in NARROW_FLOATS:
        if not any(True for _ in bodies(node)) and takes_tensors(node, opset):
            yield ONNX_TYPES["float32"]
        return
    domain, name = identifier_of(node)
    if domain or kind is None:
        return
    if name == "BitShift":
        yield from SHIFTS.get(kind, ())
    if name in HOLDING:
        yield from WIDER.get(kind, ())
    if name in REINTERPRETING and kind == U64:
        yield I64
    if name in OF_TRUTH and kind == ir.DataType.BOOL:
        yield from (U8, I32)
