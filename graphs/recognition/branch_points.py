"""Branch points of an expression on the whole line, also between the sample points.

The sign of a difference decides between two branches: of x² and 1e6, for example. It is computed
on a grid that is dense near usual bends and covers the range of float32. Between two points of the
grid the difference may dip to zero and come back: each extreme towards zero is located.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gatewave.graphs.analysis.thresholds import (
    BISECTIONS,
    DIP,
    EXTREME_PARTS,
    EXTREME_STEPS,
    LINEAR,
    MAX_CROSSINGS,
    ZERO,
)

_HALF = np.unique(
    [*np.geomspace(1e-38, 1e38, 3041), *np.linspace(0.0, 100.0, 801), *np.geomspace(10, 1e4, 1501)]
)
GRID = np.array([*-_HALF[:0:-1], *_HALF])

Differences = Callable[[Any], Any]
"""Takes points; returns a row for each pair of branches: see `BranchPoint.difference`."""


def crossings(differences: Differences) -> list[float] | None:
    """Return points on both sides of each crossing and between; None if they are too many.

    A difference that spikes between two points of the grid is missed.
    """
    extremes = _extremes(differences)
    if extremes is None:
        return None
    # With its extremes on the grid, a difference that dips below 0 between two points changes sign.
    grid = np.union1d(GRID, extremes)
    signs = np.sign(differences(grid))
    rows, columns = np.nonzero(_unlike(signs[:, :-1], signs[:, 1:]))
    if len(rows) > MAX_CROSSINGS:
        return None
    sides = _halved(differences, rows, grid[columns], grid[columns + 1], signs[rows, columns])
    # Numbers below the grid's smallest are denormal in float32.
    found = np.unique(np.where(np.abs(sides) < _HALF[1], 0.0, sides))
    return [*map(float, found), *map(float, (found[1:] + found[:-1]) / 2)]


def _unlike(one: Any, other: Any) -> Any:
    return (one != other) & ~np.isnan(one) & ~np.isnan(other)


def _halved(differences: Differences, rows: Any, left: Any, right: Any, signs: Any) -> list[float]:
    """Neighbours between which ``rows`` leave the ``signs`` that they have on the left."""
    each = np.arange(len(rows))
    for _ in range(BISECTIONS if len(rows) else 0):
        middle = left + (right - left) / 2
        stays = np.sign(differences(middle)[rows, each]) == signs
        left, right = np.where(stays, middle, left), np.where(stays, right, middle)
    return [*left, *right]


def _extremes(differences: Differences) -> Any:
    """Return the points between grid points at which the differences come nearest to zero."""
    found = differences(GRID)
    signs = np.sign(found)
    before, here, after = (np.abs(part) for part in (found[:, :-2], found[:, 1:-1], found[:, 2:]))
    one_sign = (signs[:, :-2] == signs[:, 1:-1]) & (signs[:, 1:-1] == signs[:, 2:])
    with np.errstate(invalid="ignore"):
        dips = (here <= before) & (here <= after) & (before + after - 2 * here > DIP * here)
    rows, columns = np.nonzero(one_sign & dips)
    if len(rows) > MAX_CROSSINGS:
        return None
    return _closed_in(differences, rows, GRID[columns], GRID[columns + 2], signs[rows, columns])


def _closed_in(differences: Differences, rows: Any, left: Any, right: Any, signs: Any) -> Any:
    """Return the point from ``left`` to ``right`` at which each row, times its sign, is lowest."""
    each = np.arange(len(rows))
    best = left
    for _ in range(EXTREME_STEPS if len(rows) else 0):
        points = np.linspace(left, right, EXTREME_PARTS)
        shape = (-1, *points.shape)
        heights = signs * differences(points.reshape(-1)).reshape(shape)[rows, :, each].T
        lowest = np.nanargmin(np.where(np.isnan(heights), np.inf, heights), axis=0)
        best = points[lowest, each]
        left = points[np.maximum(lowest - 1, 0), each]
        right = points[np.minimum(lowest + 1, EXTREME_PARTS - 1), each]
    return best


def beside(points: Iterable[float]) -> list[float]:
    """Return ``points`` and, on both sides of each, a near and a far neighbour.

    The near one is 1e-6 away: float64 still computes a difference from a kink there.
    """
    near = {point * by for point in points for by in (0.5, 1 - 1e-6, 1.0, 1 + 1e-6, 2.0)}
    return sorted(point for point in near if math.isfinite(point))


def zeros(points: Any, difference: Any, *, equality: bool) -> list[float] | None:
    """Return the zeros of a difference in one half of the line; None if they are not known.

    A linear difference is extrapolated: it may become 0 between the points or beyond. Inequalities
    of other differences are left to `crossings`. `Equal` may hold at a single point that no grid
    has, unless the difference is monotonic and moves away from 0.
    """
    if not np.all(np.isfinite(difference)):
        return None if equality else []
    slope = (difference[-1] - difference[0]) / (points[-1] - points[0])
    line = difference[0] + slope * (points - points[0])
    if np.all(np.abs(difference - line) <= LINEAR * np.max(np.abs(difference))):
        zero = float(points[0] - difference[0] / slope) if slope else math.inf
        return [zero if abs(zero) > ZERO else 0.0]
    steps = np.diff(difference)
    one_way = np.all(steps > 0) or np.all(steps < 0)
    away = np.all(difference > 0) or np.all(difference < 0)
    return [] if not equality or (one_way and away) else None
