"""`Relu` before a `Clip` with a constant minimum, on which ONNX Runtime's optimiser fails.

Its fusion of the two (relu_clip_fusion.cc) reads the minimum as a float of 16 or 32 bits, and
session creation fails for other types: seen with 1.20.1, 1.24.4 and 1.32.0 at opsets 12 to 20. The
fusion applies if only the Clip uses the Relu, after constant folding and the removal of identities;
so these conditions are matched, and not an activation: recognition has no kind for it, and would
not see why a second user of the Relu makes the model run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import onnx_ir as ir

FAILING = frozenset({ir.DataType.DOUBLE, ir.DataType.INT8, ir.DataType.INT32})

UNDONE = frozenset({"Identity", "Dropout"})
"""Operators that ONNX Runtime removes before the fusion."""


def operands(
    node: ir.Node, dtype: ir.DataType | None, arguments: Collection[ir.Value]
) -> Sequence[ir.Value | None] | None:
    """Return the Relu's input and the limits, if ``node`` clips a Relu and the fusion fails.

    Callers may give constants for the ``arguments`` of functions, so these count as constants.
    """
    if (node.domain, node.op_type) != ("", "Clip") or dtype not in FAILING:
        return None
    low = node.inputs[1] if len(node.inputs) > 1 else None
    if low is None or not _is_fixed(low, arguments):
        return None
    relu = _relu_before(node)
    return None if relu is None else [relu.inputs[0], *node.inputs[1:]]


def merged(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """``Clip(x, max(low, 0), high)``, which is ``Clip(Relu(x), low, high)`` for any limits."""
    x, low, *high = inputs
    given = ir.convenience.get_const_tensor(low)
    if given is None:
        return (op.node("Clip", [x, op.Max(low, 0.0), *high]),)
    is_raised = bool((given.numpy() < 0).any())
    return (op.node("Clip", [x, op.constant(0.0) if is_raised else low, *high]),)


def _relu_before(node: ir.Node) -> ir.Node | None:
    """Return the `Relu` whose result ``node`` takes, perhaps through identities, alone."""
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
