"""Memory that this process may use, also in a container."""

from __future__ import annotations

import os
from pathlib import Path

from gatewave.service.system.cpus import CGROUP

LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Files with the memory limit of control groups, version 2 and version 1."""


def available(cgroup: Path = CGROUP) -> int:
    """Return the memory of the machine in bytes, or the container's limit if that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *(limit for name in LIMITS if (limit := _limit(cgroup / name)))])


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # version 2 has `max` for no limit
        return None
