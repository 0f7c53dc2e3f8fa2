"""Memory for large bodies, which is used again and again.

The system gives memory page by page, and zeroed: that takes longer than what is then written to it.
`malloc` keeps what it has, but large pieces among many small ones leave holes that fit no other.
"""

from __future__ import annotations

import contextlib
import mmap
import weakref

import numpy as np
from numpy.typing import NDArray

LARGE = 1 << 20
"""In bytes: of what is less, `malloc` takes as good care."""

GRAIN = 1 << 16
"""In bytes: what was for one body should do for another of about its length."""

ENOUGH = 40 << 20
"""So many bytes wait for the next bodies; what has waited longest goes back to the system."""

_free: list[mmap.mmap] = []
"""What nobody uses. It changes in any thread, where the collector happens to run, so that nobody
may hold a lock: each step on it is one that Python does not divide."""


def memory(size: int) -> NDArray[np.uint8]:
    """``size`` bytes to write to; when nothing refers to any of them, they may be another's."""
    if size < LARGE:
        return np.empty(size, np.uint8)
    buffer = _fitting(size) or _new(size + -size % GRAIN)
    whole = np.frombuffer(buffer, np.uint8)
    # Slices of it, views of these, and who sends them: all keep it alive.
    weakref.finalize(whole, _give_back, buffer).atexit = False
    return whole[:size]


def _fitting(size: int) -> mmap.mmap | None:
    """What is free, and of ``size`` bytes, or up to twice as many."""
    for buffer in tuple(_free):
        if size <= len(buffer) <= 2 * size:
            with contextlib.suppress(ValueError):  # It has gone meanwhile.
                _free.remove(buffer)
                return buffer
    return None


def _new(size: int) -> mmap.mmap:
    # glibc asks the system for every piece that is larger than any it has given back so, the pieces
    # in which a body comes among them. This one is never touched.
    np.empty(size, np.uint8)
    buffer = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _give_back(buffer: mmap.mmap) -> None:
    _free.append(buffer)
    with contextlib.suppress(IndexError):  # Others let go of some, too.
        while sum(map(len, tuple(_free))) > ENOUGH:
            _free.pop(0)
