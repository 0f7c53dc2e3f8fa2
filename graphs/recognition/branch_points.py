"""Branch points of an expression on the whole line, also between the sample points.

The sign of a difference decides between two branches: of x² and 1e6, for example. It is computed
on a grid that is dense near usual bends and covers the range of float32. Between two points of the
grid the difference may dip to zero and come back: each extreme towards zero is located.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_HALF = np.unique(
    [*np.geomspace(1e-38, 1e38, 3041), *np.linspace(0.0, 100.0, 801), *np.geomspace(10, 1e4, 1501)]
)
GRID = np.array([*-_HALF[:0:-1], *_HALF])

MAX_CROSSINGS = 64
"""Limit on crossings and extremes, more than any activation has."""

DIP = 1e-3
"""Relative depth of a dip below which a smooth difference does not reach zero off the grid."""

HALVINGS = 64
CLOSINGS = 14
SPLITS = 9
"""Number of halvings around a crossing, and of subdivisions and parts around an extreme."""

Differences = Callable[[Any], Any]
"""Takes points; returns a row for each pair of branches: see `BranchPoint.difference`."""


def crossings(differences: Differences) -> list[float] | None:
    """Return points on both sides of each crossing and between; None if they are too many.

    A difference that spikes between two points of the grid is missed.
    """
    extremes = _extremes(differences)
    if extremes is None:
        return None
    grid = np.union1d(GRID, extremes)
    signs = np.sign(differences(grid))
    rows, columns = np.nonzero(_unlike(signs[:, :-1], signs[:, 1:]))
    if len(rows) > MAX_CROSSINGS:
        return None
    sides = _halved(differences, rows, grid[columns], grid[columns + 1], signs[rows, columns])
    found = np.unique(np.where(np.abs(sides) < _HALF[1], 0.0, sides))
    return [*map(float, found), *map(float, (found[1:] + found[:-1]) / 2)]


def _unlike(one: Any, other: Any) -> Any:
    return (one != other) & ~np.isnan(one) & ~np.isnan(other)


def _halved(differences: Differences, rows: Any, left: Any, right: Any, signs: Any) -> list[float]:
    """Neighbours between which ``rows`` leave the ``signs`` that they have on the left."""
    each = np.arange(len(rows))
    for _ in range(HALVINGS if len(rows) else 0):
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
    for _ in range(CLOSINGS if len(rows) else 0):
        points = np.linspace(left, right, SPLITS)
        shape = (-1, *points.shape)
        heights = signs * differences(points.reshape(-1)).reshape(shape)[rows, :, each].T
        lowest = np.nanargmin(np.where(np.isnan(heights), np.inf, heights), axis=0)
        best = points[lowest, each]
        left = points[np.maximum(lowest - 1, 0), each]
        right = points[np.minimum(lowest + 1, SPLITS - 1), each]
    return best
