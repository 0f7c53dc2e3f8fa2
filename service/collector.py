"""Cyclic garbage collection, held back while a long document is read.

The lists of a document make the collector run for each 700 of them, though none is garbage, and in
the end it looks at all of them several times: reading 7 MB of empty lists takes 0.13 s, and with
the collector 1.1 s. All threads wait for it, the event loop among them.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType

MOST_CONTAINERS = 1 << 22
"""Containers that come to be before the collector runs all the same: more than one document has."""


class HeldBack:
    """A block, in any thread, during which the collector runs rarely; blocks may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._thresholds = gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._blocks:
                self._thresholds = gc.get_threshold()
                gc.set_threshold(MOST_CONTAINERS, *self._thresholds[1:])
            self._blocks += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                gc.set_threshold(*self._thresholds)


held_back = HeldBack()
