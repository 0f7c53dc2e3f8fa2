"""How much memory this process may really use, in a container too."""

from __future__ import annotations

import os
from pathlib import Path

from service.cpus import CGROUP

LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Where control groups of version 2 and of version 1 have their limit."""


def available(cgroup: Path = CGROUP) -> int:
    """Return the bytes of the machine, or fewer where the container's limit is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *(limit for name in LIMITS if (limit := _limit(cgroup / name)))])


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # version 2 says `max` where there is none
        return None
