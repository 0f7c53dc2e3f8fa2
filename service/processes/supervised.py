"""Processes of the supervisor: its workers, and the orphans that it inherits."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that the supervisor handles."""


@dataclass(eq=False)
class Worker:
    """State of a worker in its supervisor.

    Attributes:
        started_at: Start time, by the monotonic clock.
        is_ready: Whether it accepts connections.
        has_loaded: Whether it has tried all models that were there at its start.
        is_beating: Whether its event loop has reported.
        silent: Seconds since its last report.
        is_aborted: Whether it got SIGABRT for its silence.
        closed_at: Time at which it closed its control socket, which it does at its exit.
        failure: The error at its start: kind and text.
    """

    number: int
    process: subprocess.Popen[bytes]
    control: socket.socket
    started_at: float | None = None
    is_ready: bool = False
    has_loaded: bool = False
    is_beating: bool = False
    silent: float = 0.0
    is_aborted: bool = False
    closed_at: float | None = None
    heard: bytes = b""
    failure: tuple[str, str] | None = None

    @property
    def has_started(self) -> bool:
        """Return whether it has ever accepted connections."""
        return self.started_at is not None

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # It may have ended, which will be seen.
            self.control.sendall(line.encode() + b"\n")

    def kill(self) -> None:
        """Kill it and its process group, which includes the trials of models."""
        self.process.kill()
        self.end_group()

    def end_group(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)


def signal_name(number: int) -> str:
    """Return the name of a signal; its number, if it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def reap_orphans(ours: set[int]) -> None:
    """Collect processes whose parent has died: the first process of a container inherits them."""
    if not hasattr(os, "waitid"):
        return
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in ours:
                return
            os.waitpid(ended.si_pid, 0)
