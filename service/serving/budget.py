"""How much memory the requests under way may take together."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from service import metrics
from service.errors import Overloaded

GRAIN = 1 << 16
"""So many bytes up or down are worth telling: telling costs as much as decoding a small request."""


class Budget:
    """Bytes that may be in use at once; used from the event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._told = 0

    def change(self, count: int) -> None:
        """Hold ``count`` bytes more, or fewer."""
        self.used += count
        if not -GRAIN < self.used - self._told < GRAIN:
            self._told = self.used
            metrics.RESERVED_BYTES.set(self.used)

    def permit(self) -> Permit:
        return Permit(self)


class Permit:
    """The bytes that one request holds; it gives them back when its block ends."""

    __slots__ = ("budget", "held")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.held = 0

    def take(self, count: int) -> None:
        """Hold ``count`` bytes more.

        Raises:
            Overloaded: So much is not free now.
        """
        if self.budget.used + count > self.budget.most:
            raise Overloaded("memory", f"{self.budget.most} bytes are in use by other requests")
        self.owe(count)

    def owe(self, count: int) -> None:
        """Hold ``count`` bytes more, free or not: they are in use already, and others see it."""
        self.budget.change(count)
        self.held += count

    def give_back(self) -> None:
        """Hold nothing any more."""
        self.budget.change(-self.held)
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()
