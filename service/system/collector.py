"""Delay of cyclic garbage collection while a long document is read.

The collector runs for each 700 new lists of a document, although they are not garbage, and
traverses all of them several times. Reading 7 MB of empty lists takes 0.13 s without the collector,
and 1.1 s with it. All threads wait for it, including the event loop.
"""

from __future__ import annotations

import gc
import threading

MAX_CONTAINERS = 1 << 22
"""New containers after which the collector runs in any case: more than one document has."""


class HeldBack:
    """Context in which the collector runs rarely; contexts of several threads may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._thresholds = gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._blocks:
                self._thresholds = gc.get_threshold()
                gc.set_threshold(MAX_CONTAINERS, *self._thresholds[1:])
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                gc.set_threshold(*self._thresholds)


held_back = HeldBack()
