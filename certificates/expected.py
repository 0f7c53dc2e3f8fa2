"""Expected results of a user's model for one case of inputs, and the comparison with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gatewave.graphs.ops.ulp import unit_in_the_last_place
from gatewave.graphs.processes.messages import Array, Value
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.samples import Case
from gatewave.graphs.verify.tensor_difference import Difference, between, described, is_float
from gatewave.graphs.verify.value_ranges import Source

# Each operator of a network rounds, and a perturbed input shows one rounding only. A stable element
# changes by about 0, so that the factor gives it no slack: a float32 sine of x is out of tolerance
# in float64 beside elements that are noise (test_an_unstable_element_excuses_no_others).
STEPS = 256.0
"""Multiple of an element's change under perturbed inputs that counts as rounding."""

# In bfloat16, 256 units in the last place of 1 are 2.
STEPS_OF_SHORT = 16.0
"""Distance of `moved_far` for floats of 16 bits and less, in units in the last place."""

# A small multiple (ADR 32): the runs with moved inputs are a sample of the possible roundings.
JUMPS = 4.0
"""Multiple of the largest jump seen in a graph that quantises: see `Expected.stepped`."""


@dataclass(frozen=True)
class Expected:
    """Expected results for one case of inputs.

    Attributes:
        case: The inputs.
        outputs: The expected results.
        moved: The results for perturbed inputs, each float moved to a neighbour: another runtime's
            roundings change an element by a small multiple of that change.
        stepped: True if the graph quantises. A rounding then changes an element by zero or by a
            whole step. Inputs are then moved further, see `moved_far`, and the largest change in a
            tensor is allowed at each of its elements.
        other: Results of a second runtime for outputs that differ although both runtimes compute
            every node alike: the graph amplifies their roundings.
        without: Outputs without a baseline here, each with the reason.
    """

    case: Case
    outputs: Mapping[str, Array]
    moved: Sequence[Mapping[str, Array]]
    stepped: bool = False
    other: Mapping[str, Array] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)

    def between(self, name: str, got: Array | None, tolerance: Allowance) -> Difference:
        """Return the difference of the output ``name`` from the expected result."""
        want = self.outputs[name]
        over = self.passed_over(name, got)
        if got is None or over is None:
            return between(want, got, tolerance, lenient=False)
        known = np.where(over, want, got).astype(want.dtype)
        return between(want, known, tolerance, lenient=self.case.extreme, slack=self._slack(name))

    def worst(
        self, got: Mapping[str, Array], tolerance: Allowance
    ) -> tuple[str, Difference] | None:
        """Return the output that differs most, with its difference, if any is out of tolerance."""
        found = {name: self.between(name, got.get(name), tolerance) for name in self.outputs}
        name = max(found, key=lambda one: found[one].used, default="")
        return (name, found[name]) if name and found[name].used > 1 else None

    def passed_over(self, name: str, got: Array | None) -> Array | None:
        """Return the elements that are not compared; None if ``got`` has another type or shape.

        Indices are left out if perturbed inputs change them, and floats if perturbed inputs turn
        them finite or not finite. On huge inputs, floats are left out that are not finite in either
        result: a sum may overflow in one order of its terms only.
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
        """Return the error per element that the model's conditioning explains, in float64."""
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
    """Return the change of each element in float64; 0 if either is not finite."""
    with np.errstate(all="ignore"):
        change = np.abs(other.astype(np.float64) - want.astype(np.float64))
    return np.nan_to_num(change, nan=0.0, posinf=0.0)


def moved_far(case: Case, source: Source) -> Case:
    """Return the same case with each float moved up or down by `STEPS` units in the last place."""
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
