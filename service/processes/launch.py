"""Start of the supervisor by the command line.

`gatewave serve` becomes the supervisor (``python -m gatewave.service.processes.supervisor``) by
exec, under its own process id: a supervisor lives as long as the service, and needs neither ONNX
Runtime nor the web framework that the command line has imported.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from typing import NoReturn

from gatewave.service.errors import SettingsInvalid
from gatewave.service.processes.signals import HANDLED
from gatewave.service.settings import Settings


def check_worker_settings(settings: Settings) -> None:
    """Check that the settings are possible with several workers.

    Raises:
        SettingsInvalid: A setting needs a single worker.
    """
    if settings.workers == 1:
        return
    if settings.repository_mode == "explicit":
        raise SettingsInvalid(
            "repository_mode explicit needs workers 1, got "
            f"{settings.workers}: a worker that is told to load a model cannot tell the others"
        )
    if settings.grpc_port == 0:
        raise SettingsInvalid(
            f"grpc_port 0 needs workers 1, got {settings.workers}: each would choose its own"
        )


def worker_settings(settings: Settings, processors: int) -> Settings:
    """Return the settings of one worker, with its share of the processors as the default."""
    part = max(1, processors // settings.workers)
    return settings.model_copy(
        update={"threads": settings.threads or part, "lanes": settings.lanes or part}
    )


def exec_supervisor(settings: Settings, listeners: list[socket.socket]) -> NoReturn:
    """Replace this process by the supervisor of a worker for each of ``listeners``.

    Its exit status is that of the service: 0; 1 if requests were aborted or workers do not start;
    2 if settings are invalid.
    """
    given = memory_file(settings.model_dump_json().encode())
    descriptors = [given, *(listener.fileno() for listener in listeners)]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    # Signals between exec and the new handlers stay pending until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    arguments = ["-P", "-m", "gatewave.service.processes.supervisor", *map(str, descriptors)]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - Python itself


def memory_file(content: bytes) -> int:
    """Return the descriptor of an unnamed file with ``content``, in memory if possible."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("gatewave-settings")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
