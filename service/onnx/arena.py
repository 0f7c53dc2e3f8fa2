"""The memory that ONNX Runtime shares among all models, and who holds some of it."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable
from math import inf
from types import TracebackType
from typing import Any, Self

from gatewave.service.codecs.datatypes import Array

SCARCE = re.compile(r"Available memory of (\d+) is smaller than requested bytes of (\d+)")
NO_MEMORY = (
    "Available memory of",
    "bad allocation",
    "bad_alloc",
    "Failed to allocate memory",
    "storage size overflowed",
)

_USES: set[Use] = set()
"""Whoever holds some of it now, in whatever thread. Each step on it is one that Python does not
divide: a lock could be wanted by a callback of the collector, in the thread that holds it."""


def is_scarce(error: BaseException, most: float = inf) -> bool:
    """Whether ``error`` says that there is too little left, of ``most`` bytes that would do."""
    asked = SCARCE.search(str(error))
    return asked is not None and int(asked[2]) <= most


def is_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that there is too little memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY)


def arena_needed(error: BaseException | None, arena_bytes: int) -> int | None:
    """Return how large the arena must be, at least, where ``error`` or a cause of it is its size.

    Args:
        error: An error of a run, or of loading a model.
        arena_bytes: The size of the arena in which it occurred.
    """
    while error is not None:
        asked = SCARCE.search(str(error))
        if asked is not None:
            return arena_bytes - int(asked[1]) + int(asked[2])
        if is_of_memory(error):
            return arena_bytes + 1
        error = error.__cause__
    return None


class Use:
    """A run, from its beginning until nobody has its results, which lie in that memory too.

    Attributes:
        shared: Whether anybody else held some of it meanwhile.
    """

    __slots__ = ("_results", "shared")

    def __init__(self) -> None:
        self._results: list[weakref.ref[Any]] = []
        self.shared = False

    def hold(self, results: Iterable[Array]) -> None:
        """Last as long as one of ``results`` does."""
        self._results = [weakref.ref(result, self._let_go) for result in results]

    def _let_go(self, result: weakref.ref[Any]) -> None:
        self._results.remove(result)
        if not self._results:
            _USES.discard(self)

    def __enter__(self) -> Self:
        _USES.add(self)
        for other in list(_USES):
            if other is not self:
                other.shared = self.shared = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._results:
            _USES.discard(self)
