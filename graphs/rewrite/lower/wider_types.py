"""Wider element types in which an operator gives the same result, for types that a target lacks.

A node of int8 on a target with int32 only is computed in int32, between casts. The cast back takes
the low bits, so sums and products overflow in the same way as in the narrow type: modulo 2^8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import bodies
from gatewave.graphs.ops.graph_ops import ONNX_TYPES
from gatewave.graphs.rewrite.lower.lowerings import identifier_of
from gatewave.graphs.rewrite.lower.operator_schemas import takes_tensors

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
"""Operators that give the same bits for signed and unsigned 64-bit integers.

No wider type holds uint64; two's complement adds and multiplies both alike. `Div`, `Less` and `Max`
depend on the sign.
"""

OF_TRUTH = frozenset({"Where", "ReduceMax", "ReduceMin"})
"""Operators that select or compare: they give the same for 0 and 1 as for false and true."""

SHIFTS: Mapping[ir.DataType, tuple[ir.DataType, ...]] = dict.fromkeys((U8, U16), (U32, U64))
"""Wider types for `BitShift`, which takes unsigned integers only."""


def wider_types(node: ir.Node, kind: ir.DataType | None, opset: int) -> Iterator[ir.DataType]:
    """Yield the element types that may replace ``kind`` at ``node``, the nearest first."""
    if kind in NARROW_FLOATS:
        # Nodes in bodies have types of their own, which casts around the body do not change.
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
