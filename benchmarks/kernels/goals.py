"""Goals of the kernels in float32, and the check whether they are reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.kernels.contestants import ABS, COMPILED, EXPORTED, OURS, ROOF, SMALL
from benchmarks.timing import Ratio, ratio

Samples = Mapping[str, Sequence[float]]
"""Seconds per call of each contestant, turn by turn."""

MEDIUM = (1 << 16, 1 << 20)
LARGE = (1 << 24,)

SINC = ("sinc value",)
SWIGLU = ("swiglu-sigmoid value", "swiglu-linear value")
GRADIENTS = ("sinc grad", "swiglu-sigmoid grad", "swiglu-linear grad")


@dataclass(frozen=True)
class Goal:
    """Goal: at each of ``sizes``, ``rival`` takes at least ``factor`` times as long as ours."""

    cases: Sequence[str]
    sizes: Sequence[int]
    rival: str
    factor: float
    words: str


GOALS = (
    Goal(SINC, MEDIUM, EXPORTED, 8, "≥ 8 × the exported graph"),
    Goal(SINC, MEDIUM, COMPILED, 5, "≥ 5 × torch.compile"),
    Goal(SINC, LARGE, ROOF, 0.8, "≥ 0.8 of Abs"),
    Goal(SWIGLU, MEDIUM, EXPORTED, 2, "≥ 2 × the exported graph"),
    Goal(SWIGLU, MEDIUM, COMPILED, 1.5, "≥ 1.5 × torch.compile"),
    Goal(SWIGLU, LARGE, ROOF, 0.8, "≥ 0.8 of Add"),
    Goal(GRADIENTS, MEDIUM, EXPORTED, 3, "≥ 3 × the exported graph"),
    Goal(GRADIENTS, LARGE, ROOF, 0.8, "≥ 0.8 of a copy of the same bytes"),
    Goal((*SINC, *SWIGLU, *GRADIENTS), (SMALL,), ABS, 1, "no slower than one Abs node"),
)

HEADER = ("graph", "elements", "goal", "reached", "quartiles of the turns", "the roof", "")


def rows(measured: Mapping[tuple[str, int], Samples]) -> Iterator[tuple[str, ...]]:
    """Yield each goal at each measured size."""
    for goal in GOALS:
        for name in goal.cases:
            for size in goal.sizes:
                samples = measured.get((name, size), {})
                if goal.rival in samples:
                    ours, roof = (ratio(samples[goal.rival], samples[n]) for n in (OURS, ROOF))
                    yield name, f"{size:,}", goal.words, *_cells(goal, ours, roof.median)


def _cells(goal: Goal, ours: Ratio, roof: float) -> tuple[str, ...]:
    quartiles = f"{ours.low:.2f} … {ours.high:.2f}"
    return f"{ours.median:.2f}", quartiles, f"{roof:.2f}", _verdict(goal, ours, roof)


def _verdict(goal: Goal, ours: Ratio, roof: float) -> str:
    if ours.median >= goal.factor:
        return "yes"
    if ours.high >= goal.factor:
        return "within noise"
    return "**no**" if roof >= goal.factor else "**no**, limited by the roof"
