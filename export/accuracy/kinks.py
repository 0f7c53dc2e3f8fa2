"""Points at which a function of one input has no derivative, and autograd's value there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POINTS = 40_001
"""Points of the grid on which slopes are compared; two kinks between neighbours count as one."""

JUMP = 1e-5
"""Neighbouring floats whose slopes differ by more, relatively, have a kink between them."""

HALVINGS = 64
"""Enough to get from the grid to neighbouring floats, except next to 0."""

NEAR_ZERO = 1e-12
"""An interval around 0 that is shorter is 0: floats are dense there."""


@dataclass(frozen=True, slots=True)
class Kink:
    """A point where the slope jumps.

    Attributes:
        x: The point.
        slope: The slope that autograd gives at it.
        left: The slope at the float before it.
        right: The slope at the float after it.
    """

    x: float
    slope: float
    left: float
    right: float


def find(slope: Callable[[Tensor], Tensor], low: float, high: float) -> tuple[Kink, ...]:
    """Return the kinks of a function between ``low`` and ``high``, by bisection.

    Args:
        slope: The derivative, of float64 tensors of one axis.
        low: The least point looked at.
        high: The greatest.
    """
    grid = torch.linspace(low, high, POINTS, dtype=torch.float64)
    left, right = _narrowed(slope, grid[:-1], grid[1:])
    points = sorted({_simplest(*pair) for pair in zip(left.tolist(), right.tolist(), strict=True)})
    return tuple(_kinks(slope, points))


def _narrowed(
    slope: Callable[[Tensor], Tensor], left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """Halve the intervals over which the slope jumps; drop those over which it is smooth."""
    at_left, at_right = slope(left), slope(right)
    for _ in range(HALVINGS):
        jumps = _differ(at_left, at_right)
        left, right = left[jumps], right[jumps]
        at_left, at_right = at_left[jumps], at_right[jumps]
        if not len(left):
            break
        middle = left + (right - left) / 2
        at_middle = slope(middle)
        first = (at_middle - at_left).abs() >= (at_right - at_middle).abs()
        left, at_left = torch.where(first, left, middle), torch.where(first, at_left, at_middle)
        right, at_right = torch.where(first, middle, right), torch.where(first, at_middle, at_right)
    return left, right


def _differ(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).abs() > JUMP * first.abs().clamp(1.0)


def _simplest(left: float, right: float) -> float:
    """The shortest decimal number of the two, and 0 where both are next to it."""
    if abs(left) < NEAR_ZERO and abs(right) < NEAR_ZERO:
        return 0.0
    return min(left, right, key=lambda x: len(repr(x)))


def _kinks(slope: Callable[[Tensor], Tensor], points: Sequence[float]) -> list[Kink]:
    x = torch.tensor(points, dtype=torch.float64)
    infinity = torch.full_like(x, torch.inf)
    sides = [slope(torch.nextafter(x, -infinity)), slope(x), slope(torch.nextafter(x, infinity))]
    found = [Kink(*row) for row in torch.stack([x, *sides[1:2], sides[0], sides[2]], 1).tolist()]
    return [k for k in found if abs(k.left - k.right) > JUMP * max(1.0, abs(k.left))]


def in_words(name: str, kinks: Sequence[Kink]) -> list[str]:
    """Return a sentence that names the kinks, if there are any, and the slopes chosen there."""
    if not kinks:
        return []
    listed = ", ".join(
        f"{kink.x:g} ({kink.left:.6g} before it, {kink.right:.6g} after it, {kink.slope:.6g} there)"
        for kink in kinks
    )
    return [
        f"At these values of {name} the derivative jumps, and is what autograd gives: {listed}."
    ]
