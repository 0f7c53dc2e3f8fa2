"""Date and machine of a measurement."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Iterator
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def today() -> str:
    """The date, in UTC, as ISO 8601 has it."""
    return dt.datetime.now(tz=dt.UTC).date().isoformat()


def words() -> str:
    """System, architecture, processor and Python."""
    processor = next(_processor_names(), platform.processor())
    python = platform.python_version()
    return f"{platform.system()} {platform.machine()} ({processor}), with Python {python}"


def _processor_names() -> Iterator[str]:
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                yield line.partition(": ")[2]
