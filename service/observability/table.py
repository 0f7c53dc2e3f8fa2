"""Numbers of one process in memory that other processes can read.

The multiprocess mode of `prometheus_client` keeps them in memory-mapped files below TMPDIR. If the
disk is full, writing a new number raises SIGBUS, which ends the process. A table lies in a memory
file (`memfd_create`) that the supervisor makes for each worker: it needs no file system, is freed
with the last process, and outlives a worker, so that totals continue in its replacement.

A table begins with the number of bytes in use and its owner's process id. Then come records, each
with the record's size, the length of its name, its value, and its name; a name of length 0 marks a
record that is free. One process writes, under a lock; others may read at any time.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import defaultdict, deque
from collections.abc import Iterator
from threading import Lock

SIZE = 1 << 24
"""Bytes of a table, for some hundred thousand numbers. Only used pages take memory."""

LIVE = b"live"
"""Prefix of the names of numbers that count for living processes only."""

HEAD = struct.Struct("=QQ")
RECORD = struct.Struct("=IId")
LENGTH = struct.Struct("=I")
VALUE = struct.Struct("=d")
GRAIN = 32
"""Divisor of the sizes of records, so that a free record fits another name of similar length."""


def create() -> int:
    """Return the descriptor of a new table.

    Raises:
        OSError: The system has no memory files, or no descriptors left.
    """
    descriptor = os.memfd_create("gatewave-metrics")
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Table:
    """Table of numbers, written by its owner or read by another process."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, SIZE)
        self._lock = Lock()
        self._orphans: dict[bytes, int] = {}
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._freed: deque[int] = deque()

    @property
    def owner(self) -> int:
        """Return the process id of the owner; 0 before there is one."""
        _, owner = HEAD.unpack_from(self._memory)
        return int(owner)

    def own(self) -> None:
        """Become the owner; `place` continues the counts of the previous owner."""
        used, _ = HEAD.unpack_from(self._memory)
        HEAD.pack_into(self._memory, 0, max(used, HEAD.size), os.getpid())
        for offset, size, name, _ in self._records():
            if name:
                self._orphans[name] = offset
            else:
                self._free[size].append(offset)

    def disown(self) -> None:
        """Note that the owner has ended."""
        used, _ = HEAD.unpack_from(self._memory)
        HEAD.pack_into(self._memory, 0, used, 0)

    def place(self, name: bytes) -> int:
        """Return the place of the number called ``name``, or 0 if the table is full."""
        with self._lock:
            offset = self._orphans.pop(name, None)
            return self._new(name) if offset is None else offset

    def _new(self, name: bytes) -> int:
        while self._freed:
            free = self._freed.popleft()
            self._free[RECORD.unpack_from(self._memory, free)[0]].append(free)
        size = -(-(RECORD.size + len(name)) // GRAIN) * GRAIN
        offset = self._free[size].pop() if self._free[size] else self._append(size)
        if offset:
            start = offset + RECORD.size
            self._memory[start : start + len(name)] = name
            self.write(offset, 0.0)
            # Last: readers ignore the record before this.
            LENGTH.pack_into(self._memory, offset + LENGTH.size, len(name))
        return offset

    def _append(self, size: int) -> int:
        used, owner = HEAD.unpack_from(self._memory)
        if used + size > SIZE:
            return 0
        RECORD.pack_into(self._memory, used, size, 0, 0.0)
        HEAD.pack_into(self._memory, 0, used + size, owner)
        return int(used)

    def read(self, offset: int) -> float:
        return float(VALUE.unpack_from(self._memory, offset + 2 * LENGTH.size)[0])

    def write(self, offset: int, value: float) -> None:
        VALUE.pack_into(self._memory, offset + 2 * LENGTH.size, value)

    def free(self, offset: int) -> None:
        """Free a number; the garbage collector may call this at any time, in any thread."""
        LENGTH.pack_into(self._memory, offset + LENGTH.size, 0)
        self._freed.append(offset)

    def __iter__(self) -> Iterator[tuple[bytes, float]]:
        """Yield names and values."""
        return ((name, value) for _, _, name, value in self._records() if name)

    def zero(self, prefix: bytes) -> None:
        """Set all numbers to 0 whose names begin with ``prefix``."""
        for offset, _, name, _ in self._records():
            if name.startswith(prefix):
                self.write(offset, 0.0)

    def _records(self) -> Iterator[tuple[int, int, bytes, float]]:
        used, _ = HEAD.unpack_from(self._memory)
        memory = self._memory[:used]
        offset = HEAD.size
        while offset < used:
            size, length, value = RECORD.unpack_from(memory, offset)
            start = offset + RECORD.size
            yield offset, size, memory[start : start + length], value
            offset += size
