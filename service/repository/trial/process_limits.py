"""Engine and memory limit of a process that runs an operator's model."""

from __future__ import annotations

import resource
from pathlib import Path

from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import CPU
from gatewave.service.repository.trial.messages import COPIES, LoadSettings

OUTSIDE_ARENA_BYTES = 512 << 20
"""Bytes that ONNX Runtime may allocate outside its arena."""

OUT_OF_MEMORY = "it needs more memory than its process may have"
"""Reason to refuse a model that exceeds the limit."""


def start_engine(setup: LoadSettings, size: int, more: int = 0) -> Engine:
    """Start the engine of this process, and limit the memory that the process may still allocate.

    The limit is set after the start: the engine's libraries reserve addresses for themselves.

    Args:
        setup: Settings of the engine.
        size: Bytes of the model's files.
        more: Bytes of requests.
    """
    engine = Engine.start(
        setup.device,
        setup.threads,
        setup.arena_bytes,
        kernels=setup.kernels,
        instructions=setup.instructions,
    )
    if engine.provider == CPU:  # A GPU's driver reserves more addresses than any useful limit.
        limit_memory(setup.arena_bytes + COPIES * size + more + OUTSIDE_ARENA_BYTES)
    return engine


def limit_memory(more: int) -> None:
    """Let this process allocate ``more`` bytes beyond its present size.

    The limit is on addresses (RLIMIT_AS), because Linux ignores RLIMIT_RSS.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def forbid_core_dumps() -> None:
    """Disable core dumps: each would be as large as the model's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
