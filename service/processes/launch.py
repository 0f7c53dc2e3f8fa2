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
from gatewave.service.processes.supervised import HEARD
from gatewave.service.settings import Settings


def refuse_contradictions(settings: Settings) -> None:
    """See that several workers can do what is asked of them.

    Raises:
        SettingsInvalid: They cannot.
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


def share(settings: Settings, processors: int) -> Settings:
    """The settings of one worker: where they leave it open, its part of the processors."""
    part = max(1, processors // settings.workers)
    return settings.model_copy(
        update={"threads": settings.threads or part, "lanes": settings.lanes or part}
    )


def become(settings: Settings, listeners: list[socket.socket]) -> NoReturn:
    """Replace this process by the supervisor of a worker for each of ``listeners``.

    Its exit status is that of the service: 0, or 1 where requests were given up or workers do not
    start, or 2 where settings are wrong.
    """
    given = _readable(settings.model_dump_json().encode())
    descriptors = [given, *(listener.fileno() for listener in listeners)]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    # Signals between exec and the new handlers stay pending until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    arguments = ["-P", "-m", "gatewave.service.processes.supervisor", *map(str, descriptors)]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - Python itself


def _readable(content: bytes) -> int:
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
