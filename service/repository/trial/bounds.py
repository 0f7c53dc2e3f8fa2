"""Engine and memory limit of a process that runs an operator's model."""

from __future__ import annotations

import resource
from pathlib import Path

from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import CPU
from gatewave.service.repository.trial.job import COPIES, Setup

BESIDES = 512 << 20
"""Bytes that ONNX Runtime may allocate outside its arena."""

SCARCE = "it asks for more memory than there may be"
"""Reason to refuse a model that exceeds the limit."""


def start(setup: Setup, size: int, more: int = 0) -> Engine:
    """Start the engine of this process, and limit the memory that the process may still take.

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
    if engine.provider == CPU:  # A GPU's driver reserves more addresses than any limit.
        bound_memory(setup.arena_bytes + COPIES * size + more + BESIDES)
    return engine


def bound_memory(more: int) -> None:
    """Let this process allocate ``more`` bytes, and no further ones."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def forbid_core_dumps() -> None:
    """Have a crash leave no file: it would be as large as the model's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
