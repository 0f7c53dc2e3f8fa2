"""Recognition of one-input activations by the values of an expression.

The expression is evaluated, in float64, at points all over the line and at its own branch points:
see `agreement` and `branch_points`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.constants import snapped
from gatewave.graphs.analysis.numpy_ops import BranchPoint, NotElementwiseError, NumpyOps
from gatewave.graphs.analysis.thresholds import (
    FLAT_SLOPE,
    GUARD_EFFECT,
    GUARD_SIZE,
    SCREENING_TOLERANCE,
    SNAKE_GUARD,
    STEEP,
)
from gatewave.graphs.recognition.agreement import Curve, agree, strays
from gatewave.graphs.recognition.branch_points import beside, crossings, zeros
from gatewave.graphs.recognition.expressions import Expression, ExpressionReader
from gatewave.graphs.recognition.fitting import fit_of
from gatewave.graphs.recognition.kinds import KINDS, Kind
from gatewave.graphs.recognition.operators import DERIVED
from gatewave.graphs.recognition.points import OVERFLOW_POINTS, POINTS, SCREEN, at

TELLING = DERIVED | {
    "Sigmoid", "Exp", "Tanh", "Erf", "Erfc", "Sin", "Softplus", "HardSigmoid", "HardSwish", "Relu",
    "Clip", "Max", "Min", "Where", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Mish", "Gelu",
    "Swish", "QuickGelu", "FastGelu", "BiasGelu", "Abs", "Sinc", "ThresholdedRelu", "Cos", "Shrink",
    "Softsign", "Log", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Sign",
}  # fmt: skip
"""Nonlinear operators; every activation has at least one."""

ALPHAS = (0.625, -0.7, 0.0, 3.0, -5.0)
"""Values of a scalar input at which an expression must be Swish with that α.

Both signs and 0 are needed: α, |α| and max(α, 0) are equal at 1, at which it has been tried.
"""

NOTHING: Mapping[ir.Value, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class KindMatch:
    """Activation that an expression computes.

    Attributes:
        kind: A name of the catalogue.
        reals: Its real parameters.
        expression: The expression.
        nan_at_zero: True if it gives NaN at 0, where the activation is a number: 0/0 is left in.
    """

    kind: str
    reals: Mapping[str, float]
    expression: Expression
    nan_at_zero: bool = False


def matches(reader: ExpressionReader, expressions: Iterable[Expression]) -> Iterator[KindMatch]:
    """Yield the activations among ``expressions``."""
    for expression in expressions:
        if any(n.op_type in TELLING or n.domain for n in expression.nodes):
            found = match(reader, expression)
            if found is not None:
                yield found


def match(
    reader: ExpressionReader, expression: Expression, given: Mapping[ir.Value, float] = NOTHING
) -> KindMatch | None:
    """Return the kind of ``expression``, with the numbers ``given`` in place of some constants."""
    parameter = expression.parameter
    curve = Curve(reader, expression, {**given, **({} if parameter is None else {parameter: 1.0})})
    op = NumpyOps()
    try:
        values = reader.evaluate(expression, POINTS, op, curve.given)
        curve = replace(curve, nan_at_zero=math.isnan(at(values, 0.0)))
        # The first kind that agrees at the usual points decides.
        for kind in _kinds_near(values):
            if kind.telling and not _tells(expression, kind.telling):
                continue
            for reals in _reals(kind, values, expression):
                if agree(curve, kind, reals, POINTS, values):
                    whole = _everywhere(curve, kind, reals, op.branch_points)
                    named = _named(kind, reals)
                    return KindMatch(*named, expression, curve.nan_at_zero) if whole else None
    except NotElementwiseError:
        pass
    return None


def _named(kind: Kind, reals: Mapping[str, float]) -> tuple[str, Mapping[str, float]]:
    """Rename a SnakeBeta whose β is α, apart from the guard against division by 0, to Snake."""
    if kind.name == "snake-beta" and 0 <= reals["beta"] - reals["alpha"] <= SNAKE_GUARD:
        return "snake", {"alpha": reals["alpha"]}
    return kind.name, reals


def _tells(expression: Expression, telling: Collection[str]) -> bool:
    """Return true if it has one of the operators, or a call that may contain one."""
    return any(node.op_type in telling or node.domain for node in expression.nodes)


def _everywhere(
    curve: Curve, kind: Kind, reals: Mapping[str, float], branch_points: Sequence[BranchPoint]
) -> bool:
    """Return true if the curve also agrees between and beyond the usual points."""
    if curve.expression.parameter is not None and not _follows(curve, kind):
        return False
    critical = _critical(branch_points)
    found = crossings(curve.differences) if branch_points else []
    if critical is None or found is None:
        return False
    # A branch may exist for NaN alone, such as Where(x == x, x, 0).
    nan = [] if kind.nan_is_open else [math.nan]
    points = np.array([*nan, *_scaled(reals), *critical, *_computed(curve, beside(found))])
    return (
        agree(curve, kind, reals, points)
        and not strays(curve, kind, reals)
        and not _hides_a_constant(curve, kind, reals)
    )


def _computed(curve: Curve, points: list[float]) -> Any:
    """Drop the points beyond the usual ones at which float64 overflows.

    An expression that is correct in float32 may be ``inf/inf`` there. A constant that is infinite
    itself is no such overflow, so it excuses nothing.
    """
    values = curve.values(np.array(points))
    constants = [constant.number for constant in curve.expression.constants]
    if not np.all(np.isfinite(constants)):
        return points
    return np.array(points)[np.isfinite(values) | (np.abs(points) <= POINTS[-1])]


def _follows(curve: Curve, kind: Kind) -> bool:
    """Return true if the scalar input acts as the kind's only real parameter.

    The default is tried as well: a graph may compare the input with it.
    """
    parameter = curve.expression.parameter
    if list(kind.reals) != ["alpha"] or parameter is None or parameter.const_value is None:
        return False
    default = float(parameter.const_value.numpy())
    return all(
        agree(replace(curve, given={parameter: alpha}), kind, {"alpha": alpha}, POINTS)
        for alpha in dict.fromkeys((*ALPHAS, default))
    )


def _hides_a_constant(curve: Curve, kind: Kind, reals: Mapping[str, float]) -> bool:
    """Return true if cancellation alone has hidden the effect of a tiny constant.

    Such a constant guards a logarithm or a division that follows: log(1e-20) is finite, log(0) is
    not. It counts if the expression without it is still the activation, but has other values.
    """
    points = np.array([*POINTS, *OVERFLOW_POINTS])
    for value in dict.fromkeys(curve.reader.constants_of(curve.expression.nodes, GUARD_SIZE)):
        without = replace(curve, given={**curve.given, value: 0.0})
        if agree(without, kind, reals, POINTS):
            others = without.values(points)
            with np.errstate(invalid="ignore"):
                moved = np.abs(others - curve.values(points)) > GUARD_EFFECT * np.abs(others)
            if np.any(moved):
                return True
    return False


def _scaled(reals: Mapping[str, float]) -> Any:
    """Return points around the bend of a very steep or very flat slope."""
    alpha = abs(reals.get("alpha", 1.0))
    is_usual = STEEP[0] <= alpha <= STEEP[1]
    return POINTS / alpha if not is_usual and alpha > FLAT_SLOPE else POINTS[:0]


def _critical(branch_points: Iterable[BranchPoint]) -> list[float] | None:
    """Return branch points and points beside them; None if they cannot be determined."""
    found: set[float] = set()
    for branch_point in branch_points:
        difference = np.broadcast_to(branch_point.difference, POINTS.shape)
        for half in (POINTS >= 1, POINTS <= -1):
            here = zeros(POINTS[half], difference[half], equality=branch_point.equality)
            if here is None:
                return None
            found.update(here)
    return beside(found)


def _reals(kind: Kind, values: Any, expression: Expression) -> Iterator[dict[str, float]]:
    """Yield real parameters that fit the values, with the graph's own numbers where they do."""
    fit = fit_of(kind)
    if fit is None:
        yield {}
        return
    with np.errstate(all="ignore"):
        numbers = [constant.number for constant in expression.constants]
        for found in fit(values, numbers):
            if all(map(math.isfinite, found)) and _near(
                values, kind.formula(NumpyOps(), POINTS[SCREEN], *found)
            ):
                # A number of the graph is exact, an estimate is not; but a number may be near by
                # coincidence.
                exact = [snapped(number, expression.constants) for number in found]
                for given in (exact, found):
                    yield dict(zip(kind.reals, given, strict=True))


@functools.cache
def _screened() -> tuple[list[Kind], Any]:
    """Return the kinds of one input, and their values at `SCREEN`: NaN if they have parameters."""
    kinds = [kind for kind in KINDS.values() if len(kind.inputs) == 1 and not kind.per_channel]
    nothing = np.full(SCREEN.shape, math.nan)
    found = [nothing if kind.reals else kind.formula(NumpyOps(), POINTS[SCREEN]) for kind in kinds]
    return kinds, np.array(found)


def _kinds_near(values: Any) -> list[Kind]:
    """Return the kinds worth a closer look; nearly all expressions are far from most kinds."""
    kinds, expected = _screened()
    with np.errstate(invalid="ignore"):
        near = (np.abs(values[SCREEN] - expected) <= SCREENING_TOLERANCE).all(axis=1)
    near |= np.isnan(expected[:, 0])
    return list(itertools.compress(kinds, near))


def _near(values: Any, expected: Any) -> bool:
    return bool((np.abs(values[SCREEN] - expected) <= SCREENING_TOLERANCE).all())
