"""Inputs of a model, and the results that others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from export.channel import Array, Value
from export.proof.differences import (
    Difference,
    Tolerance,
    between,
    described,
    is_float,
    unit_in_the_last_place,
)
from export.proof.ranges import Source
from export.proof.samples import Case

STEPS = 256.0
"""So many times what that changes an element are roundings within a network: each operator makes
some. Of an element that is stable it is nothing: in float32, the 1e-5 that it rounds to."""

STEPS_OF_SHORT = 16.0
"""The same for floats of 16 bits and less, of which 256 units in the last place are a quarter."""

JUMPS = 4.0
"""Times the largest jump that was seen, where roundings of a graph jump: see `Due.stepped`."""


@dataclass(frozen=True)
class Due:
    """Inputs, and what is due for them.

    Attributes:
        case: The inputs.
        outputs: What is due.
        moved: The same for inputs whose floats are each the next one: another runtime's roundings
            change an element by some times as much.
        stepped: Whether the graph quantises: there a rounding changes an element by nothing, or by
            a whole step at any place. Inputs are moved by more then, see `moved_far`, and the
            largest change in a tensor may be found at each of its elements.
        other: Of some outputs, what a second runtime gave that computes every node alike: it is off
            by roundings alone.
        without: Why some outputs have no baseline here.
    """

    case: Case
    outputs: Mapping[str, Array]
    moved: Sequence[Mapping[str, Array]]
    stepped: bool = False
    other: Mapping[str, Array] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)

    def between(self, name: str, got: Array | None, tolerance: Tolerance) -> Difference:
        """How far the output of that name is from what is due."""
        want = self.outputs[name]
        over = self.passed_over(name, got)
        if got is None or over is None:
            return between(want, got, tolerance, lenient=False)
        known = np.where(over, want, got).astype(want.dtype)
        return between(want, known, tolerance, lenient=self.case.extreme, slack=self._slack(name))

    def passed_over(self, name: str, got: Array | None) -> Array | None:
        """The elements that say nothing; None, if ``got`` is of another type or shape.

        Where huge inputs overflow, in a sum say, another order of its terms does not: so what is
        not finite in either. And what a step of the inputs takes away: an index, or a number.
        """
        want = self.outputs[name]
        if got is None or described(got) != described(want):
            return None
        others = [moved[name] for moved in self.moved]
        others += [self.other[name]] if name in self.other else []
        over = np.zeros(want.shape, bool)
        if not is_float(want):
            return np.asarray(np.any([over, *(want != other for other in others)], axis=0))
        finite = np.isfinite(want)
        over = np.any([over, *(finite != np.isfinite(other) for other in others)], axis=0)
        if self.case.extreme and all(map(_is_finite, self.case.inputs.values())):
            over = over | ~(finite & np.isfinite(got))
        return np.asarray(over)

    def _slack(self, name: str) -> Array | None:
        """How far each element may be off for the model's own sake, in float64."""
        want = self.outputs[name]
        if not is_float(want):
            return None
        steps = [_change(want, moved[name]) for moved in self.moved]
        slack = np.maximum.reduce([np.zeros(want.shape), *steps])
        slack = JUMPS * slack.max(initial=0.0) if self.stepped else STEPS * slack
        if name in self.other:
            slack = np.maximum(slack, JUMPS * _change(want, self.other[name]).max(initial=0.0))
        return np.asarray(np.broadcast_to(slack, want.shape))


def _change(want: Array, other: Array) -> Array:
    """By how much each element changes where both are finite, in float64."""
    with np.errstate(all="ignore"):
        change = np.abs(other.astype(np.float64) - want.astype(np.float64))
    return np.nan_to_num(change, nan=0.0, posinf=0.0)


def moved_far(case: Case, source: Source) -> Case:
    """The same case, each float `STEPS` units in the last place off, up or down."""
    inputs = {name: _moved(value, source) for name, value in case.inputs.items()}
    return replace(case, inputs=inputs)


def _moved(value: Value, source: Source) -> Value:
    if isinstance(value, list):
        return [_moved(item, source) for item in value]
    if value is None or not is_float(value):
        return value
    wide = value.astype(np.float64)
    finite = np.isfinite(wide)
    steps = STEPS_OF_SHORT if value.dtype.itemsize <= 2 else STEPS  # noqa: PLR2004
    with np.errstate(all="ignore"):
        units = unit_in_the_last_place(np.where(finite, wide, 0.0), value.dtype.name)
        moved = (wide + steps * units * source.choice([-1.0, 1.0], value.shape)).astype(value.dtype)
    return np.where(finite & np.isfinite(moved.astype(np.float64)), moved, value).astype(
        value.dtype
    )


def _is_finite(value: Value) -> bool:
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return value is None or not is_float(value) or bool(np.isfinite(value).all())
