"""Arena of memory that all models in this process share, and the runs that hold parts of it."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable
from math import inf
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
"""Runs that hold memory of the arena now, in any thread. It is changed by single operations, which
the interpreter does not interrupt. A lock could deadlock: the garbage collector may run a weak
reference's callback in the thread that holds the lock."""


def is_scarce(error: BaseException, most: float = inf) -> bool:
    """Return True if an allocation of at most ``most`` bytes exceeded the rest of the arena.

    ONNX Runtime has no status code for that, so the text of the error is searched.
    """
    asked = SCARCE.search(str(error))
    return asked is not None and int(asked[2]) <= most


def is_of_memory(error: BaseException) -> bool:
    """Return True if ``error`` reports a lack of memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY)


def arena_needed(error: BaseException | None, arena_bytes: int) -> int | None:
    """Return the least size of the arena with which ``error`` would not occur.

    Args:
        error: An error of a run, or of loading a model.
        arena_bytes: The size of the arena in which it occurred.

    Returns:
        The size in bytes, or None if neither the error nor a cause of it is a lack of memory.
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
    """Use of the arena by one run, from its start until its results, which lie in it, are freed.

    A run that lacked memory is worth a retry only if another run held some at the same time.

    Attributes:
        shared: True if another run held memory of the arena meanwhile.
    """

    __slots__ = ("_results", "shared")

    def __init__(self) -> None:
        self._results: list[weakref.ref[Any]] = []
        self.shared = False

    def hold(self, results: Iterable[Array]) -> None:
        """Extend the use until all ``results`` are freed."""
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

    def __exit__(self, *_: object) -> None:
        if not self._results:
            _USES.discard(self)
