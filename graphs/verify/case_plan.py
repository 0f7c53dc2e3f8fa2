"""Choice of the cases for a model: cheap ones first, depending on those that the model takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gatewave.graphs.verify import input_shapes
from gatewave.graphs.verify.input_shapes import InputShapes
from gatewave.graphs.verify.samples import OPPOSED, REPLACED, Case, Replaced, Samples, name_of
from gatewave.graphs.verify.thresholds import ENOUGH, MAX_RATIO, MAX_SHAPES
from gatewave.graphs.verify.value_ranges import NORMAL, ValueRange

Sized = tuple[str, InputShapes]


@dataclass(frozen=True)
class CaseDraft:
    """Case whose inputs are not drawn yet.

    Attributes:
        words: The sizes of its open axes, in words.
        shapes: Shapes of its inputs.
        kind: The range of its numbers.
        given: See `Samples.case`.
        searched: True if it looks for shapes that the model takes.
    """

    words: str
    shapes: InputShapes
    kind: ValueRange = NORMAL
    given: Replaced | None = None
    searched: bool = False

    @property
    def elements(self) -> int:
        """Elements of all inputs together; the cost of the case is roughly proportional to them."""
        return _elements(self.shapes)

    @property
    def name(self) -> str:
        return name_of(self.words, self.kind, self.given)

    @property
    def range(self) -> str:
        """Name of the case, without sizes if it stands for a range tried in several sizes."""
        return self.name if self.kind is NORMAL else self.kind.name

    def drawn(self, samples: Samples) -> Case:
        return samples.case(self.words, self.shapes, self.kind, given=self.given)


@dataclass(frozen=True)
class GivenCase:
    """Case of the caller's own inputs."""

    case: Case
    searched: bool = field(default=False, init=False)

    @property
    def elements(self) -> int:
        return sum(getattr(value, "size", 1) for value in self.case.inputs.values())

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def range(self) -> str:
        return self.case.name

    def drawn(self, _: Samples) -> Case:
        return self.case


@dataclass
class CasePlan:
    """Plan of the cases: normal numbers in several shapes, then all ranges in one of these.

    The ranges are tried in the smallest shapes with `ENOUGH` elements: in the largest shapes of a
    network for images, eight of twelve cases had a batch of 32.

    Args:
        samples: Draws them.
        taken: Returns the number of cases that the model has taken; called after each draft.
    """

    samples: Samples
    taken: Callable[[], int]
    accepted: list[Sized] = field(default_factory=list, init=False)

    def __iter__(self) -> Iterator[CaseDraft]:
        for words, shapes in _smallest_first(self.samples):
            if len(self.accepted) == MAX_SHAPES:
                break
            if self._is_excessive(shapes):
                continue
            before = self.taken()
            yield CaseDraft(words, shapes, searched=True)
            self.accepted += [(words, shapes)] * (self.taken() - before)
        if self.accepted:
            yield from self._ranges()

    def _ranges(self) -> Iterator[CaseDraft]:
        words, shapes = _sufficient(self.accepted)
        for kind in self.samples.kinds():
            yield from self._until_taken(kind)
        if self.samples.can_replace():
            yield CaseDraft(words, shapes, given=REPLACED)
        if self.samples.has_signs():
            yield CaseDraft(words, shapes, given=OPPOSED)
        for words, shapes in input_shapes.empties(self.samples.inputs):
            yield CaseDraft(words, shapes)

    def _until_taken(self, kind: ValueRange) -> Iterator[CaseDraft]:
        """Yield ``kind`` in one of the shapes after the other, until the model takes it."""
        sufficient = _sufficient(self.accepted)
        others = [one for one in self.accepted if one is not sufficient and _has_some(one)]
        before = self.taken()
        for words, shapes in (sufficient, *others):
            if self.taken() == before:
                yield CaseDraft(words, shapes, kind)

    def _is_excessive(self, shapes: InputShapes) -> bool:
        """Return true if smaller shapes that the model takes show as much."""
        enough = [count for _, one in self.accepted if (count := _elements(one)) >= ENOUGH]
        return bool(self.accepted) and _elements(shapes) > MAX_RATIO * min(enough, default=ENOUGH)


def drawn(samples: Samples, taken: Callable[[], int]) -> Iterator[Case]:
    """Return all cases of `CasePlan`, drawn."""
    return (draft.drawn(samples) for draft in CasePlan(samples, taken))


def _smallest_first(samples: Samples) -> Iterator[Sized]:
    """Yield the candidates of `sizes`, block by block, the smallest first."""
    for index, block in enumerate(input_shapes.blocks(samples.inputs)):
        # There are few ordinary sizes; among the others, mixed sizes show more than equal ones.
        ordered = block if index else sorted(block, key=lambda one: _elements(one[1]))
        least = min((_elements(shapes) for _, shapes in block), default=0)
        yield from sorted(ordered, key=lambda one: _elements(one[1]) > MAX_RATIO * least)


def _sufficient(accepted: Sequence[Sized]) -> Sized:
    """Return the smallest shapes with enough elements, or the largest if no shapes have enough."""
    enough = [one for one in accepted if _has_enough(one)]
    if enough:
        return min(enough, key=lambda one: _elements(one[1]))
    return max(accepted, key=lambda one: _elements(one[1]))


def _has_enough(one: Sized) -> bool:
    return _elements(one[1]) >= ENOUGH


def _has_some(one: Sized) -> bool:
    return _elements(one[1]) >= ENOUGH / 4


def _elements(shapes: InputShapes) -> int:
    return sum(map(math.prod, shapes.values()))
