"""Operators that are coarse in float64, because their own definition has constants of float32.

ONNX defines `Gelu` and `HardSwish` by functions that write √2, √(2/π), 0.044715 and 1/6 as floats,
and then cast them. ONNX Runtime runs these functions, and the reference evaluator does likewise:
in float64 both are off by some 1e-8 of the number. A correctly rounded
result differs from theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from gatewave.graphs.analysis import element_types
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.verify.thresholds import COARSE

NAMES = frozenset({"Gelu", "HardSwish"})


def notes(models: Iterable[ir.Model]) -> Sequence[str]:
    """Return notes on float64 in a comparison of ``models``; empty if it is exact."""
    coarse = {name for model in models if _holds_float64(model) for name in _coarse(model)}
    if not coarse:
        return ()
    names = " and ".join(sorted(coarse))
    return (f"float64 is compared to {COARSE:g}: ONNX defines {names} with constants of float32",)


def _holds_float64(model: ir.Model) -> bool:
    return any(value.dtype == ir.DataType.DOUBLE for value in model.graph.outputs)


def _coarse(model: ir.Model) -> Iterable[str]:
    """Yield the operators that compute in float64, or in an unknown type inside functions."""
    nodes = [n for s in scopes(model) for n in s.graph if n.op_type in NAMES and not n.domain]
    types = element_types.of_model(model) if nodes else {}
    for node in nodes:
        output = node.outputs[0]
        if (output.dtype or types.get(output)) in (None, ir.DataType.DOUBLE):
            yield node.op_type
