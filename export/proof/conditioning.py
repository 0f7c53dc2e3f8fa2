"""How far a model moves by itself, when floats that go in, or arise within, move by one step.

A network may be noise at some point: a rounding that flips a step of quantisation, or the order of
two scores, changes outputs by more than any tolerance. Such a difference says nothing of a rewrite
that differs by roundings. So the original is run again, with each float replaced by a neighbour: a
difference that is not much larger than what this makes is reported, and not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from export.channel import Value
from export.proof.comparison import Plan, compared
from export.proof.ranges import Source
from export.proof.report import Compared
from export.proof.samples import Case, nudged

NOISE = 16.0
"""A rewrite rounds some times, and a step is one rounding: differences up to this multiple of what
a step makes are roundings too. An α of 1.7 for 1.702 is 10,000 steps off."""

NUDGES = 4
"""Times that floats are moved, each to one neighbour or the other."""


def nudges(case: Case, source: Source) -> Iterator[Case]:
    """``case`` with each float replaced by its upper neighbour; then by either, as drawn."""
    yield nudged(case)
    for _ in range(NUDGES - 1):
        yield nudged(case, source)


def movement(
    case: Case, wanted: Mapping[str, Value], moved: Iterable[Mapping[str, Value]], plan: Plan
) -> dict[str, Compared]:
    """Of each output, how far it moved at most, as a difference from what is wanted."""
    most: dict[str, Compared] = {}
    for outputs in moved:
        for one in compared(case, wanted, outputs, "", plan):
            most[one.name] = most[one.name].joined(one) if one.name in most else one
    return most


def excused(found: Sequence[Compared], moves: Mapping[str, Compared]) -> list[Compared]:
    """Those of the differences in ``found`` that steps explain."""
    return [
        one
        for one in found
        if not one.holds and one.name in moves and _is_noise(one, moves[one.name])
    ]


def _is_noise(one: Compared, moved: Compared) -> bool:
    """Whether steps make as large a difference, and, beyond the tolerance, in as many elements.

    A step flips few elements of a rounding; another rounding changes half of them, by as much.
    """
    found, most = one.difference, moved.difference
    as_many = moved.holds or found.wrong <= NOISE * most.wrong
    return found.used <= NOISE * most.used and as_many
