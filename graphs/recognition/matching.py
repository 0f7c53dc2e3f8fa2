"""Recognition of one-input activations by the values of an expression.

The expression is evaluated, in float64, at points all over the line and at its own branch points:
see `branch_points`. Its constants may be rounded to their dtype, and its results may differ from
the formula's by the effect of that rounding. Where terms cancel, as in 1 + tanh(x), the loss of
float64 is measured and allowed in addition.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.constants import snapped
from gatewave.graphs.analysis.numpy_ops import BranchPoint, NotElementwiseError, NumpyOps, noise
from gatewave.graphs.recognition.branch_points import crossings
from gatewave.graphs.recognition.expressions import Expression, ExpressionReader
from gatewave.graphs.recognition.fits import FLAT, POINTS, at, fit_of
from gatewave.graphs.recognition.kinds import KINDS, Kind
from gatewave.graphs.recognition.operators import DERIVED

FAR = (-600.3, -350.7, -100.9, 100.9, 350.7, 600.3)
"""Points at which most spellings overflow, and decaying functions reach their smallest values."""

FARTHER = np.array([sign * 10.0**power for sign in (-1, 1) for power in range(2, 39)])
"""Points up to the range of float32: a function without branches may differ there, too."""

GROSS = 1e-6
"""Relative difference that is no rounding error there, beyond the rounding of the constants."""

TELLING = DERIVED | {
    "Sigmoid", "Exp", "Tanh", "Erf", "Erfc", "Sin", "Softplus", "HardSigmoid", "HardSwish", "Relu",
    "Clip", "Max", "Min", "Where", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Mish", "Gelu",
    "Swish", "QuickGelu", "FastGelu", "BiasGelu", "Abs", "Sinc", "ThresholdedRelu", "Cos", "Shrink",
    "Softsign", "Log", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Sign",
}  # fmt: skip
"""Operators that bend a line; every activation has at least one."""

MAX_NOISE = 1e-12
"""Largest loss from cancellation for ``|x|`` up to 1; it grows in proportion beyond."""

CLOSE = 1e-12
"""Relative loss of float64 elsewhere; near 0 there is no loss, and 1e-12 more is a difference."""

LEAST = 1e-300
"""Magnitude below which numbers lose precision."""

TINY = 1e-9
SEEN = 1e-11
"""Constants below the first may hide in rounding; they count if they move a result this far."""

ALPHAS = (0.625, -0.7, 0.0, 3.0, -5.0)
"""An input that is to be alpha must be it, whatever it is; at 1 it has been tried."""

SNAKE_GUARD = 1.001e-9
"""Implementations of Snake divide by ``α + 1e-9``."""

SHARES = (0.0, -1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)
"""Shares of the allowed rounding that are tried: a curve may also bend between its ends."""

SCREEN = np.flatnonzero(np.isin(POINTS, (-2.37, -0.86, 0.7, 1.78)))
COARSE = 0.05
"""Points, and the difference from a formula there, that make an expression worth a closer look."""


NOTHING: Mapping[ir.Value, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Match:
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


def matches(reader: ExpressionReader, expressions: Iterable[Expression]) -> Iterator[Match]:
    """Yield the activations among ``expressions``."""
    for expression in expressions:
        if any(n.op_type in TELLING or n.domain for n in expression.nodes):
            found = match(reader, expression)
            if found is not None:
                yield found


@dataclass(frozen=True, slots=True)
class Curve:
    """An expression whose parameter, and some constants, have these numbers."""

    reader: ExpressionReader
    expression: Expression
    given: Mapping[ir.Value, float] = field(default_factory=dict)
    nan_at_zero: bool = False

    def values(self, points: Any) -> Any:
        return self.reader.evaluate(self.expression, points, NumpyOps(), self.given)

    def differences(self, points: Any) -> Any:
        """Return the differences that decide between branches: a row for each pair of them."""
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


def match(
    reader: ExpressionReader, expression: Expression, given: Mapping[ir.Value, float] = NOTHING
) -> Match | None:
    """Return the kind of ``expression``, with the numbers ``given`` in place of some constants."""
    parameter = expression.parameter
    curve = Curve(reader, expression, {**given, **({} if parameter is None else {parameter: 1.0})})
    op = NumpyOps()
    try:
        values = reader.evaluate(expression, POINTS, op, curve.given)
        curve = replace(curve, nan_at_zero=math.isnan(at(values, 0.0)))
        for kind in _kinds_near(values):
            if kind.telling and not _tells(expression, kind.telling):
                continue
            for reals in _reals(kind, values, expression):
                if _agree(curve, kind, reals, POINTS, values):
                    whole = _everywhere(curve, kind, reals, op.branch_points)
                    named = _named(kind, reals)
                    return Match(*named, expression, curve.nan_at_zero) if whole else None
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
    """Return true if the curve also agrees at kinks and at branch points.

    And at NaN: a branch may be there for nothing else.
    """
    if curve.expression.parameter is not None and not _follows(curve, kind):
        return False
    critical = _critical(branch_points)
    found = crossings(curve.differences) if branch_points else []
    if critical is None or found is None:
        return False
    beyond = _beside(found)
    nan = [] if kind.nan_is_open else [math.nan]
    points = np.array([*nan, *_scaled(reals), *critical, *_computed(curve, beyond)])
    return (
        _agree(curve, kind, reals, points)
        and not _strays(curve, kind, reals)
        and not _hides_a_constant(curve, kind, reals)
    )


def _computed(curve: Curve, points: list[float]) -> Any:
    """``points`` but for those beyond the usual ones at which float64 overflows."""
    values = curve.values(np.array(points))
    constants = [constant.number for constant in curve.expression.constants]
    if not np.all(np.isfinite(constants)):
        return points
    return np.array(points)[np.isfinite(values) | (np.abs(points) <= POINTS[-1])]


def _strays(curve: Curve, kind: Kind, reals: Mapping[str, float]) -> bool:
    """Return true if the curve is another function far out, beyond the losses of float64."""
    values = curve.values(FARTHER)
    roundoff = 1.05 * curve.expression.roundoff()
    expected, response, lost = _expected(
        kind.name, tuple(reals.items()), roundoff, FARTHER.tobytes()
    )
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = GROSS * np.maximum(1, np.abs(expected)) + response + lost + curve.noise(FARTHER)
        return bool(np.any(np.isfinite(values) & (np.abs(values - expected) > allowed)))


def _follows(curve: Curve, kind: Kind) -> bool:
    """Return true if the scalar input acts as the kind's only real parameter.

    Values of both signs, and its default: of an alpha's magnitude, say, each knows one half only.
    """
    parameter = curve.expression.parameter
    if list(kind.reals) != ["alpha"] or parameter is None or parameter.const_value is None:
        return False
    default = float(parameter.const_value.numpy())
    return all(
        _agree(replace(curve, given={parameter: alpha}), kind, {"alpha": alpha}, POINTS)
        for alpha in dict.fromkeys((*ALPHAS, default))
    )


def _hides_a_constant(curve: Curve, kind: Kind, reals: Mapping[str, float]) -> bool:
    """Return true if cancellation alone has hidden the effect of a tiny constant.

    It guards a logarithm or a division that comes after: 1e-20 is more than no 0.
    """
    points = np.array([*POINTS, *FAR])
    for value in dict.fromkeys(curve.reader.constants_of(curve.expression.nodes, TINY)):
        without = replace(curve, given={**curve.given, value: 0.0})
        if _agree(without, kind, reals, POINTS):
            others = without.values(points)
            with np.errstate(invalid="ignore"):
                moved = np.abs(others - curve.values(points)) > SEEN * np.abs(others)
            if np.any(moved):
                return True
    return False


def _agree(
    curve: Curve, kind: Kind, reals: Mapping[str, float], points: Any, values: Any = None
) -> bool:
    values = curve.values(points) if values is None else values
    roundoff = 1.05 * curve.expression.roundoff()
    expected, response, lost = _expected(
        kind.name, tuple(reals.items()), roundoff, points.tobytes()
    )
    most = MAX_NOISE * np.maximum(1, np.abs(points))
    with np.errstate(invalid="ignore"):
        difference = np.abs(values - expected)
        no_number = np.isnan(points) & np.isnan(expected) | (curve.nan_at_zero & (points == 0))
        excused = np.isnan(values) & no_number
        allowed = LEAST + CLOSE * np.abs(expected) + response + np.minimum(lost, most)
        if not np.all((difference <= allowed + most) | excused):
            return False
        if np.all((difference <= allowed) | excused):
            return True
        allowed += np.minimum(curve.noise(points), most)
        return bool(np.all((difference <= allowed) | excused))


@functools.lru_cache(maxsize=512)
def _expected(
    name: str, reals: tuple[tuple[str, float], ...], roundoff: float, points: bytes
) -> tuple[Any, Any, Any]:
    """The formula's values, and their error if its constants are off by ``roundoff``.

    A constant scales the formula or its argument. The error of float64 in the formula is added.
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


def _scaled(reals: Mapping[str, float]) -> Any:
    """More points where a very steep or very flat slope hides the bend from the usual ones."""
    alpha = abs(reals.get("alpha", 1.0))
    return POINTS / alpha if not 0.5 <= alpha <= 2.0 and alpha > FLAT else POINTS[:0]  # noqa: PLR2004


def _critical(branch_points: Iterable[BranchPoint]) -> list[float] | None:
    """Branch points and points beside them; None if they cannot be determined."""
    found: set[float] = set()
    for branch_point in branch_points:
        difference = np.broadcast_to(branch_point.difference, POINTS.shape)
        for half in (POINTS >= 1, POINTS <= -1):
            zeros = _zeros(POINTS[half], difference[half], equality=branch_point.equality)
            if zeros is None:
                return None
            found.update(zeros)
    return _beside(found)


def _beside(found: Iterable[float]) -> list[float]:
    beside = {zero * by for zero in found for by in (0.5, 1 - 1e-6, 1.0, 1 + 1e-6, 2.0)}
    return sorted(point for point in beside if math.isfinite(point))


def _zeros(points: Any, difference: Any, *, equality: bool) -> list[float] | None:
    """Return the zeros of the difference in one half of the line; exact ones where it is linear.

    Where it is not, an inequality is left to `crossings`. An equality may hold anywhere between the
    points, unless it moves one way and away from zero.
    """
    if not np.all(np.isfinite(difference)):
        return None if equality else []
    slope = (difference[-1] - difference[0]) / (points[-1] - points[0])
    line = difference[0] + slope * (points - points[0])
    if np.all(np.abs(difference - line) <= 1e-9 * np.max(np.abs(difference))):
        zero = float(points[0] - difference[0] / slope) if slope else math.inf
        return [zero if abs(zero) > 1e-15 else 0.0]  # noqa: PLR2004 - a rounding error
    steps = np.diff(difference)
    one_way = np.all(steps > 0) or np.all(steps < 0)
    away = np.all(difference > 0) or np.all(difference < 0)
    return [] if not equality or (one_way and away) else None


def _reals(kind: Kind, values: Any, expression: Expression) -> Iterator[dict[str, float]]:
    """The real parameters that the values ask for, if any can be: the graph's own numbers first."""
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
                exact = [snapped(number, expression.constants) for number in found]
                for given in (exact, found):
                    yield dict(zip(kind.reals, given, strict=True))


@functools.cache
def _screened() -> tuple[list[Kind], Any]:
    """Kinds of one input with their values at a few points; NaN where parameters decide."""
    kinds = [kind for kind in KINDS.values() if len(kind.inputs) == 1 and not kind.per_channel]
    nothing = np.full(SCREEN.shape, math.nan)
    found = [nothing if kind.reals else kind.formula(NumpyOps(), POINTS[SCREEN]) for kind in kinds]
    return kinds, np.array(found)


def _kinds_near(values: Any) -> list[Kind]:
    """Return the kinds worth a closer look; nearly all expressions are far from most kinds."""
    kinds, expected = _screened()
    with np.errstate(invalid="ignore"):
        near = (np.abs(values[SCREEN] - expected) <= COARSE).all(axis=1)
    near |= np.isnan(expected[:, 0])
    return list(itertools.compress(kinds, near))


def _near(values: Any, expected: Any) -> bool:
    """Return true if the values are near enough for a closer look."""
    return bool((np.abs(values[SCREEN] - expected) <= COARSE).all())
