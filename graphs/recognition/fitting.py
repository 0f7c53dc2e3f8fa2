"""Estimation of real parameters from the values of an expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gatewave.graphs.analysis.thresholds import FLAT_SLOPE, GATE_RANGE, OWN_NUMBER, WAVE_FIT
from gatewave.graphs.recognition.kinds import Kind
from gatewave.graphs.recognition.points import POINTS, at

Fit = Callable[[Any, Iterable[float]], Iterator[tuple[float, ...]]]
"""Function of the values at `POINTS` and the expression's own numbers; yields parameters to try."""


def _swish(values: Any, _: Iterable[float]) -> Iterator[tuple[float, ...]]:
    """``logit(y/x) / x``, at the point where the sigmoid is steepest but y/x is not yet 1/2."""
    for point in (1.0, 1e-3, 1e-6, 11.7):
        # A gate of 0.5 does not depend on α. Steep gates need small points, flat ones large points.
        gate = at(values, point) / point
        if GATE_RANGE[0] < gate < GATE_RANGE[1] and gate != 0.5:  # noqa: PLR2004
            alpha = math.log(gate / (1 - gate)) / point
            if abs(alpha) > FLAT_SLOPE:
                yield (alpha,)
            return


def _leaky_relu(values: Any, _: Iterable[float]) -> Iterator[tuple[float, ...]]:
    alpha = -at(values, -1.0)
    plain_line = (
        abs(alpha) <= FLAT_SLOPE or abs(abs(alpha) - 1) <= FLAT_SLOPE
    )  # or ReLU, or the magnitude
    if not plain_line:
        yield (alpha,)


def _elu(values: Any, _: Iterable[float]) -> Iterator[tuple[float, ...]]:
    alpha = at(values, -1.0) / math.expm1(-1.0)
    if abs(alpha) > FLAT_SLOPE:
        yield (alpha,)


def _hardsigmoid(values: Any, _: Iterable[float]) -> Iterator[tuple[float, ...]]:
    beta = at(values, 0.0)
    alpha = (at(values, 0.05) - beta) / 0.05
    if 0 < beta < 1 and abs(alpha) > FLAT_SLOPE:
        yield (alpha, beta)


def _own(numbers: Iterable[float]) -> list[float]:
    """Return the magnitudes of an expression's own numbers, their reciprocals, and halves."""
    sizes = [size for number in numbers if FLAT_SLOPE < (size := abs(number)) < 1 / FLAT_SLOPE]
    both = [*sizes, *(1 / size for size in sizes)]
    return list(dict.fromkeys((*both, *(size / 2 for size in both))))


def _celu(values: Any, numbers: Iterable[float]) -> Iterator[tuple[float, ...]]:
    low = at(values, -1.0)
    # The curve has no closed form for α, so the graph's own numbers are tried.
    for alpha in _own(numbers):
        if math.isclose(alpha * math.expm1(-1.0 / alpha), low, rel_tol=OWN_NUMBER):
            yield (alpha,)


def _thresholded_relu(values: Any, numbers: Iterable[float]) -> Iterator[tuple[float, ...]]:
    for alpha in (*numbers, 1.0):
        if np.array_equal(np.where(alpha < POINTS, POINTS, 0.0), values):
            yield (float(alpha),)
            return


def _hardshrink(values: Any, numbers: Iterable[float]) -> Iterator[tuple[float, ...]]:
    for lambd in (*_own(numbers), 0.5):
        if np.array_equal(np.where(np.abs(POINTS) > lambd, POINTS, 0.0), values):
            yield (lambd,)
            return


def _softshrink(values: Any, _: Iterable[float]) -> Iterator[tuple[float, ...]]:
    last = float(POINTS[-1])
    lambd = last - at(values, last)
    if FLAT_SLOPE < lambd < last and at(values, 0.0) == 0:
        yield (lambd,)


def _waves(values: Any, numbers: Iterable[float]) -> Iterator[tuple[float, float]]:
    """α is one of the expression's own numbers, or 1; β follows from it."""
    wave = at(values, 0.7) - 0.7
    other = at(values, -1.78) + 1.78
    # sin² is periodic, so a sample fits many α: only the graph's own numbers are tried.
    for alpha in dict.fromkeys((*_own(numbers), 1.0)):
        if wave > 0 and math.sin(0.7 * alpha) != 0:
            beta = math.sin(0.7 * alpha) ** 2 / wave
            if math.isclose(
                math.sin(1.78 * alpha) ** 2 / beta, other, rel_tol=WAVE_FIT, abs_tol=1e-9
            ):
                yield alpha, beta


def _snake(values: Any, numbers: Iterable[float]) -> Iterator[tuple[float, ...]]:
    for alpha, beta in _waves(values, numbers):
        if math.isclose(alpha, beta, rel_tol=WAVE_FIT):
            yield (alpha,)


def _snake_beta(values: Any, numbers: Iterable[float]) -> Iterator[tuple[float, ...]]:
    yield from _waves(values, numbers)


FITS: Mapping[str, Fit] = {
    "swish": _swish,
    "leaky-relu": _leaky_relu,
    "elu": _elu,
    "hardsigmoid": _hardsigmoid,
    "celu": _celu,
    "thresholded-relu": _thresholded_relu,
    "hardshrink": _hardshrink,
    "softshrink": _softshrink,
    "snake": _snake,
    "snake-beta": _snake_beta,
}
"""Estimators by the kind's name."""


def _one_number(values: Any, numbers: Iterable[float]) -> Iterator[tuple[float, ...]]:
    """Yield each of the expression's own numbers and 1, with both signs."""
    del values
    for number in dict.fromkeys((*_own(numbers), 1.0)):
        yield (number,)
        yield (-number,)


def fit_of(kind: Kind) -> Fit | None:
    """Return the estimator of the kind's real parameters; None if it has none.

    A kind that is derived from a record has no estimator of its own. Its parameter is one of the
    numbers in the graph.

    Raises:
        NotImplementedError: A kind with several parameters has no estimator.
    """
    if not kind.reals:
        return None
    if kind.name not in FITS and len(kind.reals) > 1:
        raise NotImplementedError(
            f"{kind.name} has the parameters {', '.join(kind.reals)}: add an estimator to FITS in "
            f"{__name__.removeprefix('gatewave.').replace('.', '/')}.py"
        )
    fit: Fit = FITS.get(kind.name, _one_number)
    return fit
