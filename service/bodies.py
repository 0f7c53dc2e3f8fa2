"""Memory for large bodies, which is used again and again.

The system gives memory page by page, and zeroed: that takes longer than what is then written to it.
`malloc` keeps what it has, but large pieces among many small ones leave holes that fit no other.
"""

from __future__ import annotations

import mmap
import weakref

import numpy as np
from numpy.typing import NDArray

LARGE = 1 << 20
"""In bytes: of what is less, `malloc` takes as good care."""

GRAIN = 1 << 16
"""In bytes: what was for one body should do for another of about its length."""

ENOUGH = 1 << 25
"""When so many bytes wait for the next bodies, what becomes free goes back to the system."""

_free: list[mmap.mmap] = []
"""What nobody uses. It is taken from on the event loop only, and may grow in any thread."""


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
    for index, buffer in enumerate(_free):
        if size <= len(buffer) <= 2 * size:
            return _free.pop(index)
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
    if sum(map(len, _free)) < ENOUGH:
        _free.append(buffer)
