"""Whether an expression is an activation of one input: by the numbers that it gives.

It is evaluated, in float64, at points all over the line, and wherever one of its own branches
begins or ends. Its constants may be rounded as their dtype must round them: by no more than that
may its results differ from the formula's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.recognition.constants import snapped
from export.recognition.expressions import Expression, Reader
from export.recognition.kinds import KINDS, Kind
from export.recognition.numpy_ops import NotElementwiseError, NumpyOps, Parting

POINTS = np.array(
    sorted(
        {
            sign * x
            for sign in (-1.0, 1.0)
            for x in (
                0.0, 1e-12, 1e-6, 1e-3, 0.05, 0.11, 0.25, 0.3, 0.47, 0.5, 0.7, 0.86, 1.0, 1.23, 1.5,
                1.78, 2.0, 2.37, 2.9, 3.0, 3.3, 3.9, 4.0, 4.6, 5.3, 5.9, 6.4, 7.7, 8.3, 9.2, 11.7,
                16.1, 20.3, 33.3, 60.7,
            )
        }
    )
)  # fmt: skip

TELLING = {
    "Sigmoid", "Exp", "Tanh", "Erf", "Sin", "Softplus", "HardSigmoid", "HardSwish", "Relu", "Clip",
    "Max", "Min", "Where", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Mish", "Gelu", "Swish",
    "QuickGelu", "FastGelu", "Abs", "Sinc", "ThresholdedRelu",
}  # fmt: skip
"""Operators that bend a line: with none of them, no expression is an activation."""

LEAST = 1e-12
"""What float64 itself may lose, for ``|x|`` up to 1, and in proportion beyond."""

SHARES = (0.0, -1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)
"""Of the rounding that is allowed: a curve that bends is answered for in between, too."""

SCREEN = np.flatnonzero(np.isin(POINTS, (-2.37, -0.86, 0.7, 1.78)))
COARSE = 0.05
"""Where, and by how much, an expression may differ from a formula to be looked at closely."""

FLAT = 1e-6
"""A slope that is less is no slope: an α of 0 makes no Swish."""


@dataclass(frozen=True, slots=True)
class Match:
    kind: str
    reals: Mapping[str, float]
    expression: Expression


def matches(reader: Reader, expressions: Iterable[Expression]) -> Iterator[Match]:
    """Those of ``expressions`` that are activations, and which."""
    for expression in expressions:
        if any(n.op_type in TELLING or n.domain for n in expression.nodes):
            found = _match(reader, expression)
            if found is not None:
                yield found


def _match(reader: Reader, expression: Expression) -> Match | None:
    try:
        values, partings = reader.evaluate(expression, POINTS)
        for kind in KINDS.values():
            for reals in _reals(kind, values, expression) if len(kind.inputs) == 1 else ():
                if _agree(expression, kind, reals, POINTS, values):
                    whole = _everywhere(reader, expression, kind, reals, partings)
                    return Match(kind.name, reals, expression) if whole else None
    except NotElementwiseError:
        pass
    return None


def _everywhere(
    reader: Reader,
    expression: Expression,
    kind: Kind,
    reals: Mapping[str, float],
    partings: Iterable[Parting],
) -> bool:
    """Whether what agrees at the usual points does so where a slope bends, and branches part."""
    if expression.parameter is not None and not _follows(reader, expression, kind):
        return False
    critical = _critical(partings)
    if critical is None:
        return False
    points = np.array([*_scaled(reals), *critical])
    values, _ = reader.evaluate(expression, points)
    return _agree(expression, kind, reals, points, values)


def _follows(reader: Reader, expression: Expression, kind: Kind) -> bool:
    """Whether the scalar input is the kind's one real parameter: other values of it, other curves.

    At 1 it has been tried.
    """
    if list(kind.reals) != ["alpha"]:
        return False
    values, _ = reader.evaluate(expression, POINTS, parameter=0.625)
    return _agree(expression, kind, {"alpha": 0.625}, POINTS, values)


def _agree(
    expression: Expression, kind: Kind, reals: Mapping[str, float], points: Any, values: Any
) -> bool:
    roundoff = 1.05 * expression.roundoff()
    expected, response = _expected(kind.name, tuple(reals.items()), roundoff, points.tobytes())
    allowed = LEAST * np.maximum(1, np.abs(points)) + response
    with np.errstate(invalid="ignore"):
        return bool(np.all(np.abs(values - expected) <= allowed))


@functools.lru_cache(maxsize=512)
def _expected(
    name: str, reals: tuple[tuple[str, float], ...], roundoff: float, points: bytes
) -> tuple[Any, Any]:
    """The formula's values, and how far off they may be if its constants are, by ``roundoff``.

    A constant scales the formula or its argument.
    """
    x = np.frombuffer(points)
    kind = KINDS[name]
    with np.errstate(all="ignore"):
        value, *others = (
            np.asarray(kind.formula(NumpyOps(), x * (1 + share * roundoff), **dict(reals)))
            for share in (SHARES if roundoff else SHARES[:1])
        )
        moved = np.max([np.abs(other - value) for other in others] or [0 * value], axis=0)
    return value, roundoff * np.abs(value) + moved


def _scaled(reals: Mapping[str, float]) -> Any:
    """More points where a slope is so steep, or so flat, that the usual ones miss the bend."""
    alpha = abs(reals.get("alpha", 1.0))
    return POINTS / alpha if not 0.5 <= alpha <= 2.0 and alpha > FLAT else POINTS[:0]  # noqa: PLR2004


def _critical(partings: Iterable[Parting]) -> list[float] | None:
    """Points at which branches part, and beside them; None where they cannot be told."""
    found: set[float] = set()
    for parting in partings:
        difference = np.broadcast_to(parting.difference, POINTS.shape)
        for half in (POINTS >= 1, POINTS <= -1):
            zeros = _zeros(POINTS[half], difference[half], equality=parting.equality)
            if zeros is None:
                return None
            found.update(zeros)
    beside = {zero * by for zero in found for by in (0.5, 1 - 1e-6, 1.0, 1 + 1e-6, 2.0)}
    return sorted(point for point in beside if math.isfinite(point))


def _zeros(points: Any, difference: Any, *, equality: bool) -> list[float] | None:
    """Where the difference is zero in one half of the line; where it is linear, exactly.

    Where it is not, an inequality has been tried on both sides, if it has two: the points are many.
    An equality may hold anywhere between them, unless it moves one way and away from zero.
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


def _at(values: Any, point: float) -> float:
    return float(values[np.searchsorted(POINTS, point)])


def _reals(kind: Kind, values: Any, expression: Expression) -> Iterator[dict[str, float]]:
    """The real parameters that the values ask for, if any can be: the graph's own numbers first."""
    fit = _FITS.get(kind.name)
    if fit is None:
        if _near(values, _screened(kind.name)):
            yield {}
        return
    with np.errstate(all="ignore"):
        found = fit(values)
        if not all(map(math.isfinite, found)) or not _near(
            values, kind.formula(NumpyOps(), POINTS[SCREEN], *found)
        ):
            return
    exact = [snapped(number, expression.constants) for number in found]
    for numbers in (exact, found):
        yield dict(zip(kind.reals, numbers, strict=True))


@functools.cache
def _screened(name: str) -> Any:
    return np.asarray(KINDS[name].formula(NumpyOps(), POINTS[SCREEN]))


def _near(values: Any, expected: Any) -> bool:
    """Whether it is worth a closer look: nearly all expressions are far from nearly all kinds."""
    return bool((np.abs(values[SCREEN] - expected) <= COARSE).all())


def _swish_alpha(values: Any) -> tuple[float]:
    """``logit(y/x) / x``, at the point where the sigmoid is steepest but y/x is not yet 1/2."""
    best = math.inf
    for point in (1.0, 1e-3, 1e-6, 11.7):
        gate = _at(values, point) / point
        if 0.01 < gate < 0.99 and gate != 0.5:  # noqa: PLR2004
            best = math.log(gate / (1 - gate)) / point
            break
    return (best if abs(best) > FLAT else math.inf,)


def _leaky_alpha(values: Any) -> tuple[float]:
    alpha = -_at(values, -1.0)
    plain_line = abs(alpha) <= FLAT or abs(abs(alpha) - 1) <= FLAT  # or ReLU, or the magnitude
    return (math.inf if plain_line else alpha,)


def _elu_alpha(values: Any) -> tuple[float]:
    alpha = _at(values, -1.0) / math.expm1(-1.0)
    return (alpha if abs(alpha) > FLAT else math.inf,)


def _hardsigmoid_reals(values: Any) -> tuple[float, float]:
    beta = _at(values, 0.0)
    alpha = (_at(values, 0.05) - beta) / 0.05
    return (alpha, beta) if 0 < beta < 1 and abs(alpha) > FLAT else (math.inf, math.inf)


_FITS: Mapping[str, Any] = {
    "swish": _swish_alpha,
    "leaky-relu": _leaky_alpha,
    "elu": _elu_alpha,
    "hardsigmoid": _hardsigmoid_reals,
}
