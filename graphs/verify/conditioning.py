"""Conditioning of a model: how its outputs change when input or inner floats move by one step.

In an ill-conditioned network, a rounding that crosses a quantisation step, or that swaps two
scores, changes outputs by more than any tolerance: with dynamic quantisation, 1e-7 in an activation
became 1e-2 in an output (ADR 33). Such a difference is no evidence against a rewrite that only
rounds differently. The original is therefore run again with each float replaced by a neighbour. A
difference that is not much larger than the resulting change is reported, but does not fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gatewave.graphs.processes.messages import Value
from gatewave.graphs.verify.comparison import compared
from gatewave.graphs.verify.report import Compared
from gatewave.graphs.verify.samples import Case, nudged
from gatewave.graphs.verify.thresholds import NOISE, NUDGES
from gatewave.graphs.verify.value_ranges import Source
from gatewave.graphs.verify.verification_plan import VerificationPlan


def nudges(case: Case, source: Source) -> Iterator[Case]:
    """Yield ``case`` with each float replaced by its upper neighbour, then by a random one."""
    yield nudged(case)
    for _ in range(NUDGES - 1):
        yield nudged(case, source)


def movement(
    case: Case,
    wanted: Mapping[str, Value],
    moved: Iterable[Mapping[str, Value]],
    plan: VerificationPlan,
) -> dict[str, Compared]:
    """Return the largest change of each output, as a difference from the wanted value."""
    most: dict[str, Compared] = {}
    for outputs in moved:
        for one in compared(case, wanted, outputs, "", plan):
            most[one.name] = most[one.name].joined(one) if one.name in most else one
    return most


def excused(found: Sequence[Compared], moves: Mapping[str, Compared]) -> list[Compared]:
    """Return the differences in ``found`` that steps explain."""
    return [
        one
        for one in found
        if not one.holds and one.name in moves and _is_noise(one, moves[one.name])
    ]


def _is_noise(one: Compared, moved: Compared) -> bool:
    """Return true if steps make as large a difference, in as many elements beyond tolerance.

    The count tells Floor from Round: both differ by a whole step of quantisation, but one step of
    the input flips few elements, and another rounding mode half of them.
    """
    found, most = one.difference, moved.difference
    as_many = moved.holds or found.wrong <= NOISE * most.wrong
    return found.used <= NOISE * most.used and as_many


def is_lost(one: Compared, moved: Compared) -> bool:
    """Return true if one step moves the original beyond tolerance, and about as far.

    For extreme inputs: in the sine of 1e30, for example, no digit is left. The elements that are
    wrong are not counted, as one step changes all of them.
    """
    beyond = not one.holds and not moved.holds
    return beyond and one.difference.used <= NOISE * moved.difference.used
