"""Comparison of an expression's values with those of a formula, in float64.

Three differences are allowed: the error of float64 in each operation, the effect of rounding the
constants to their dtype, and the loss of digits where terms cancel, as in ``1 + tanh(x)``. Other
differences count, also tiny ones: ``max(relu(x), 1e-12)`` is no ReLU, as a logarithm may follow.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.numpy_ops import NumpyOps, noise
from gatewave.graphs.analysis.thresholds import (
    CONSTANTS_ROUNDOFF,
    MAX_CANCELLATION,
    RANGE_TOLERANCE,
    SMALLEST,
    TOLERANCE,
)
from gatewave.graphs.recognition.expressions import Expression, ExpressionReader
from gatewave.graphs.recognition.kinds import KINDS, Kind
from gatewave.graphs.recognition.points import RANGE_POINTS

SHARES = (0.0, -1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)
"""Shares of the constants' rounding error that are tried.

The ends alone do not bound the effect: a curve may bend between them.
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values of an expression.

    Attributes:
        reader: Reader of the expression's graph.
        expression: The expression.
        given: Numbers of its parameter, and of constants that are replaced.
        nan_at_zero: True if NaN at 0 is allowed.
    """

    reader: ExpressionReader
    expression: Expression
    given: Mapping[ir.Value, float] = field(default_factory=dict)
    nan_at_zero: bool = False

    def values(self, points: Any) -> Any:
        return self.reader.evaluate(self.expression, points, NumpyOps(), self.given)

    def differences(self, points: Any) -> Any:
        """Return the differences whose signs select branches: a row for each branch point."""
        op = NumpyOps()
        self.reader.evaluate(self.expression, points, op, self.given)
        rows = [
            np.broadcast_to(branch_point.difference, points.shape)
            for branch_point in op.branch_points
        ]
        return np.array(rows).reshape(len(rows), len(points))

    def noise(self, points: Any) -> Any:
        def evaluate(op: Any) -> Any:
            return self.reader.evaluate(self.expression, points, op, self.given)

        return noise(evaluate)


def agree(
    curve: Curve, kind: Kind, reals: Mapping[str, float], points: Any, values: Any = None
) -> bool:
    """Return true if the curve has the values of the kind's formula at ``points``.

    Args:
        curve: Curve of the expression.
        kind: Kind with the formula.
        reals: Real parameters of the formula.
        points: Points to compare at.
        values: The curve's values there, if they are known.
    """
    values = curve.values(points) if values is None else values
    expected, response, lost = _expected_of(curve, kind, reals, points)
    # Cancelling terms of an activation are of the size of x, or of 1 near 0.
    most = MAX_CANCELLATION * np.maximum(1, np.abs(points))
    with np.errstate(invalid="ignore"):
        difference = np.abs(values - expected)
        no_number = np.isnan(points) & np.isnan(expected) | (curve.nan_at_zero & (points == 0))
        excused = np.isnan(values) & no_number
        allowed = SMALLEST + TOLERANCE * np.abs(expected) + response + np.minimum(lost, most)
        if not np.all((difference <= allowed + most) | excused):
            return False
        if np.all((difference <= allowed) | excused):
            return True
        # The expression's own cancellation takes seven evaluations, so it is measured last.
        allowed += np.minimum(curve.noise(points), most)
        return bool(np.all((difference <= allowed) | excused))


def strays(curve: Curve, kind: Kind, reals: Mapping[str, float]) -> bool:
    """Return true if the curve leaves the formula at powers of ten up to the range of float32.

    The expression may overflow there, since float32 graphs are evaluated in float64. Only finite
    values are compared, and roughly: the argument of a sine has lost most digits.
    """
    values = curve.values(RANGE_POINTS)
    expected, response, lost = _expected_of(curve, kind, reals, RANGE_POINTS)
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = RANGE_TOLERANCE * np.maximum(1, np.abs(expected)) + response + lost
        allowed += curve.noise(RANGE_POINTS)
        return bool(np.any(np.isfinite(values) & (np.abs(values - expected) > allowed)))


def _expected_of(
    curve: Curve, kind: Kind, reals: Mapping[str, float], points: Any
) -> tuple[Any, Any, Any]:
    roundoff = CONSTANTS_ROUNDOFF * curve.expression.roundoff()
    return _expected(kind.name, tuple(reals.items()), roundoff, points.tobytes())


@functools.lru_cache(maxsize=512)
def _expected(
    name: str, reals: tuple[tuple[str, float], ...], roundoff: float, points: bytes
) -> tuple[Any, Any, Any]:
    """Return the formula's values, their response to rounded constants, and float64's error.

    A constant of the expression may scale the result, the argument, or a number that the formula
    adds (`Kind.numbers`). Each of these is moved by up to ``roundoff``.
    """
    x = np.frombuffer(points)
    kind = KINDS[name]

    def evaluate(op: Any, share: float = 0.0, **numbers: float) -> Any:
        moved = x * (1 + share * roundoff)
        return np.asarray(kind.formula(op, moved, **dict(reals), **numbers), float)

    with np.errstate(all="ignore"):
        value, *others = (
            evaluate(NumpyOps(), share) for share in (SHARES if roundoff else SHARES[:1])
        )
        others += [
            evaluate(NumpyOps(), **{name: number * (1 + sign * roundoff)})
            for name, number in kind.numbers.items()
            for sign in (-1, 1)
            if roundoff
        ]
        moved = np.max([np.abs(other - value) for other in others] or [0 * value], axis=0)
    return value, roundoff * np.abs(value) + moved, noise(evaluate)
