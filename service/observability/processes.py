"""What the system knows of this service's processes: memory, time, files and threads of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process as ``/proc`` shows it.

    Attributes:
        cpu_seconds: On all processors together, in user and kernel mode.
        started: As a Unix time.
    """

    pid: int
    parent: int
    cpu_seconds: float
    started: float
    resident_bytes: int
    virtual_bytes: int
    threads: int
    open_files: int
    most_files: float

    @classmethod
    def look(cls, pid: int, proc: Path = PROC) -> Process | None:
        """What ``proc`` says of the process now, if it is there and may be looked at."""
        folder = proc / str(pid)
        try:
            # The command's name, before the last parenthesis, may hold anything.
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            return cls(
                pid=pid,
                parent=int(stat[1]),
                cpu_seconds=(int(stat[11]) + int(stat[12])) / TICKS_PER_SECOND,
                started=_booted(proc) + int(stat[19]) / TICKS_PER_SECOND,
                resident_bytes=int(stat[21]) * PAGE_BYTES,
                virtual_bytes=int(stat[20]),
                threads=int(stat[17]),
                open_files=len(os.listdir(folder / "fd")),  # noqa: PTH208 - only their number
                most_files=_most_files(folder),
            )
        except (OSError, ValueError, IndexError):
            return None


def _booted(proc: Path) -> float:
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def _most_files(folder: Path) -> float:
    for line in (folder / "limits").read_text().splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return float("inf") if soft == "unlimited" else float(soft)
    return float("inf")


def workers(others: Iterable[int], proc: Path = PROC) -> Iterator[Process]:
    """Return this process and the other workers.

    Args:
        others: The noted process ids of the others; this process may be among them.
        proc: Where the system shows its processes.
    """
    for pid in sorted({os.getpid(), *others}):
        process = Process.look(pid, proc)
        # A note may outlive its worker, and another program may get the process id.
        if process is not None and (pid == os.getpid() or process.parent == os.getppid()):
            yield process
