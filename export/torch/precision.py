"""Precision in which each output of a graph is computed, and the effect of rounding on it."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.element_types import bodies
from gatewave.graphs.verify import coarse_operators
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.thresholds import RELATIVE

ROUNDINGS = 2
"""Units in the last place by which inputs are moved to measure the effect of rounding."""

ROUNDINGS_OF_LONG = 16
"""Likewise where floats have 32 bits or more: their tolerances are hundreds of such units."""

LONG = 1e-6
"""Upper bound on the epsilon of such floats."""

NOISE = 4.0
"""Allowed difference as a multiple of the change that moved inputs cause."""


@dataclass(frozen=True)
class Precision:
    """The lowest precision among the float values before an output.

    Attributes:
        epsilon: Machine epsilon of that type.
        tolerance: The difference that is allowed in the output.
    """

    epsilon: float
    tolerance: Allowance

    @property
    def step(self) -> float:
        """Relative distance by which inputs are moved."""
        return self.epsilon * (ROUNDINGS_OF_LONG if self.epsilon < LONG else ROUNDINGS)


def of_outputs(model: ir.Model) -> dict[str, Precision]:
    """Return the precision of each output, by name.

    A network that computes in float16 and returns float32 has the precision of float16. Constants
    do not count: one of float32 in a graph of float64 is an error, not a precision.
    """
    rough = bool(coarse_operators.notes([model]))
    widest: dict[ir.Value | None, float] = {value: _epsilon(value) for value in model.graph.inputs}
    for node in model.graph:
        live = [widest[value] for value in node.inputs if value in widest]
        if next(iter(bodies(node)), None) is not None:  # it may take any value
            live = [*widest.values()]
        if live:
            for output in node.outputs:
                widest[output] = max(*live, _epsilon(output), 0.0)
    return {
        value.name or "": _precision(value, widest.get(value, 0.0), rough=rough)
        for value in model.graph.outputs
    }


def _precision(value: ir.Value, widest: float, *, rough: bool) -> Precision:
    own = _epsilon(value)
    epsilon = max(widest, own)
    if epsilon == own or not own:
        return Precision(epsilon or _limits("float32"), Allowance(coarse=rough))
    allowed = next(
        (rtol for name, rtol in RELATIVE.items() if _limits(name) == epsilon), 4 * epsilon
    )
    return Precision(epsilon, Allowance(rtol=allowed))


def _epsilon(value: ir.Value) -> float:
    """Return the epsilon of the value's type; 0 if it is not known or no float."""
    if value.dtype is None or not value.dtype.is_floating_point():
        return 0.0
    return _limits(value.dtype.numpy().name)


def _limits(dtype: str) -> float:
    return float(ml_dtypes.finfo(np.dtype(dtype)).eps)  # type: ignore[no-untyped-call]
