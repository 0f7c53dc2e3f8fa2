"""``x · σ(αx)`` in float64, on which session creation fails in ONNX Runtime up to 1.30.

Its `QuickGeluFusion` makes one node `com.microsoft.QuickGelu` of it, which has no float64 kernel.
The form is matched, not the function: ONNX Runtime does not fuse other ways to write SiLU, but
recognition finds them all, and would report models that run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import onnx_ir as ir

from gatewave.graphs.ops import formulas
from gatewave.graphs.rewrite.lower.lowerings import identifier_of


def operands(
    node: ir.Node, dtype: ir.DataType | None, _: Collection[ir.Value]
) -> Sequence[ir.Value] | None:
    """Return ``x`` and ``σ(u)`` if ``node`` is their product; ``u`` is ``x``, or ``x`` scaled."""
    if identifier_of(node) != ("", "Mul") or dtype != ir.DataType.DOUBLE:
        return None
    left, right = node.inputs
    for x, gate in ((left, right), (right, left)):
        maker = gate.producer() if gate is not None else None
        if x is not None and gate is not None and maker is not None and maker.op_type == "Sigmoid":
            argument = maker.inputs[0]
            scaling = argument.producer() if argument is not None else None
            if argument is x or (scaling is not None and x in scaling.inputs):
                return x, gate
    return None


def unfused(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """``-(-x · σ(u))``: equal to the bit, since IEEE 754 multiplication is symmetric in sign."""
    return (formulas.unfused(op, *inputs),)
