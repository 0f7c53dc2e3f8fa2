"""Which inputs a model is tried on, given which of them it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from export.proof import sizes
from export.proof.ranges import NORMAL
from export.proof.samples import OPPOSED, REPLACED, Case, Samples
from export.proof.sizes import Shapes

MOST_SHAPES = 4
"""So many sets of shapes that the model takes are tried, of those that `sizes` lists."""


def drawn(samples: Samples, taken: Callable[[], int]) -> Iterator[Case]:
    """Ordinary numbers in several shapes; then all ranges in one of those; then no elements.

    Args:
        samples: Draws them.
        taken: How many cases the model has taken so far: asked after each.
    """
    accepted: list[tuple[str, Shapes]] = []
    for words, shapes in sizes.candidates(samples.inputs):
        if len(accepted) == MOST_SHAPES:
            break
        before = taken()
        yield samples.case(words, shapes, NORMAL)
        accepted += [(words, shapes)] * (taken() - before)
    if not accepted:
        return
    # Many elements: every special number meets every other.
    words, shapes = max(accepted, key=lambda one: sum(map(math.prod, one[1].values())))
    for kind in samples.kinds():
        yield samples.case(words, shapes, kind)
    if samples.can_replace():
        yield samples.case(words, shapes, NORMAL, given=REPLACED)
    if samples.has_signs():
        yield samples.case(words, shapes, NORMAL, given=OPPOSED)
    for words, shapes in sizes.empties(samples.inputs):
        yield samples.case(words, shapes, NORMAL)
