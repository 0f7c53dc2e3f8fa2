"""Pool of memory for large bodies.

New memory arrives from the system zeroed, page by page, which takes longer than to write a body to
it. `malloc` reuses memory, but large blocks among small ones leave gaps that fit no other block.
"""

from __future__ import annotations

import contextlib
import mmap
import weakref

import numpy as np
from numpy.typing import NDArray

LARGE = 1 << 20
"""Size in bytes below which `malloc` is as fast."""

GRAIN = 1 << 16
"""Granularity in bytes, so that a buffer fits other bodies of about the same length."""

ENOUGH = 40 << 20
"""Bytes kept for later bodies; beyond them, the oldest buffers go back to the system."""

_free: list[mmap.mmap] = []
"""Free buffers. Finalizers change the list in any thread, even amidst a change of the list itself,
so that a lock could deadlock. Each change is therefore one atomic operation."""


def memory(size: int) -> NDArray[np.uint8]:
    """Return ``size`` writable bytes; the pool reuses them when the last reference is gone."""
    if size < LARGE:
        return np.empty(size, np.uint8)
    buffer = _fitting(size) or _new(size + -size % GRAIN)
    whole = np.frombuffer(buffer, np.uint8)
    # Slices, views and transports keep the whole array alive.
    weakref.finalize(whole, _give_back, buffer).atexit = False
    return whole[:size]


def _fitting(size: int) -> mmap.mmap | None:
    """Take a free buffer of ``size`` bytes, or of up to twice as many."""
    for buffer in tuple(_free):
        if size <= len(buffer) <= 2 * size:
            with contextlib.suppress(ValueError):  # Another thread took it.
                _free.remove(buffer)
                return buffer
    return None


def _new(size: int) -> mmap.mmap:
    # glibc maps each block that is larger than any mapped block that was freed before. This block
    # raises its threshold, so that the pieces of a body come from the heap. It is never touched.
    np.empty(size, np.uint8)
    buffer = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _give_back(buffer: mmap.mmap) -> None:
    _free.append(buffer)
    with contextlib.suppress(IndexError):  # Other threads remove buffers too.
        while sum(map(len, tuple(_free))) > ENOUGH:
            _free.pop(0)
