"""Limits on the time and memory of a comparison, with a prediction of each case's cost.

The first case is small. Time and memory of larger cases are assumed to grow with the number of
elements of the inputs. This holds for convolutions and pointwise operators; attention grows faster,
and the next measured case corrects the prediction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gatewave.graphs.verify.thresholds import MAX_CASE_BYTES


@dataclass(frozen=True)
class Cost:
    """Cost of a case: seconds, and bytes beyond the loaded model."""

    seconds: float
    bytes: float


@dataclass
class Budget:
    """Seconds for all cases together, and the costs of the cases that were run.

    Attributes:
        seconds: The limit.
        clock: Returns the time, in seconds.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _costs: dict[int, Cost] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def is_spent(self) -> bool:
        return self.clock() - self._began > self.seconds

    def add(self, elements: int, cost: Cost) -> None:
        """Record the cost of a case by its number of elements; the highest of several counts."""
        before = self._costs.get(elements, cost)
        self._costs[elements] = Cost(
            max(before.seconds, cost.seconds), max(before.bytes, cost.bytes)
        )

    def refuses(self, elements: int) -> str:
        """Return the reason why a case with ``elements`` may not start; empty if it may."""
        if not self._costs:
            return f"the budget of {self.seconds:g} s is spent" if self.is_spent else ""
        predicted = self._predicted(elements)
        left = self.seconds - (self.clock() - self._began)
        if predicted.seconds > left:
            return f"it would take about {predicted.seconds:.1f} s of the {max(left, 0):.1f} s left"
        if predicted.bytes > MAX_CASE_BYTES and elements > min(self._costs):
            return f"it would take about {predicted.bytes / (1 << 30):.1f} GiB of memory"
        return ""

    def _predicted(self, elements: int) -> Cost:
        """Scale the cost of the largest case that is no larger, or of the smallest."""
        known = max((count for count in self._costs if count <= elements), default=0)
        count = known if known in self._costs else min(self._costs)
        ratio = max(1.0, elements / max(count, 1))
        cost = self._costs[count]
        return Cost(cost.seconds * ratio, cost.bytes * ratio)
