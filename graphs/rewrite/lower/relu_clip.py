"""`Relu` before a `Clip` with a constant minimum, on which ONNX Runtime's optimiser fails.

Its fusion of the two reads the minimum as a float of 16 or 32 bits, and fails for other types. It
applies if only the Clip uses the Relu, after constant folding and the removal of identities.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import onnx_ir as ir

FAILING = frozenset({ir.DataType.DOUBLE, ir.DataType.INT8, ir.DataType.INT32})

UNDONE = frozenset({"Identity", "Dropout"})
"""Operators that ONNX Runtime removes before."""


def relu_before(
    node: ir.Node, kind: ir.DataType | None, arguments: Collection[ir.Value]
) -> ir.Node | None:
    """Return the `Relu` whose result ``node`` clips, if ONNX Runtime fails to fuse the two.

    It is not known here if callers give constants for the ``arguments`` of functions.
    """
    if (node.domain, node.op_type) != ("", "Clip") or kind not in FAILING:
        return None
    low = node.inputs[1] if len(node.inputs) > 1 else None
    if low is None or not _is_fixed(low, arguments):
        return None
    value = node.inputs[0]
    while value is not None:
        maker = value.producer()
        if maker is None or maker.domain or len(value.uses()) > 1 or value.is_graph_output():
            return None
        if maker.op_type == "Relu":
            return maker
        if maker.op_type not in UNDONE:
            return None
        value = maker.inputs[0]
    return None


def _is_fixed(value: ir.Value, arguments: Collection[ir.Value]) -> bool:
    """Return true if ``value`` is the same in every run, so that it is folded to a constant."""
    return all(
        source in arguments or (source.is_initializer() and not source.is_graph_input())
        for source in _sources(value)
    )


def _sources(value: ir.Value) -> Iterator[ir.Value]:
    """Yield the values without a producer from which ``value`` is computed; each once."""
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        maker = current.producer()
        if maker is None:
            yield current
            continue
        new = {given for given in maker.inputs if given is not None} - seen
        seen |= new
        waiting += new


def merged(op: Any, _: ir.Node, operands: Sequence[Any]) -> tuple[Any, ...]:
    """``Clip(x, max(low, 0), high)``, which is ``Clip(Relu(x), low, high)`` for any limits."""
    x, low, *high = operands
    given = ir.convenience.get_const_tensor(low)
    if given is None:
        return (op.node("Clip", [x, op.Max(low, 0.0), *high]),)
    is_raised = bool((given.numpy() < 0).any())
    return (op.node("Clip", [x, op.constant(0.0) if is_raised else low, *high]),)
