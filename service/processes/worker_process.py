"""Child processes of the supervisor: its workers, and orphans that it inherits."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

MAX_READ = 1 << 16
"""Most bytes of messages that are read at once."""


@dataclass(eq=False)
class WorkerProcess:
    """A worker process, as its supervisor sees it.

    Attributes:
        started_at: Time by the monotonic clock at which it became ready for the first time.
        is_ready: True while it accepts connections.
        has_loaded: True once it has tried all models that existed at its start.
        is_beating: True once its event loop has reported.
        silent: Seconds since its last report.
        is_aborted: True once it got SIGABRT for its silence.
        closed_at: Time at which it closed its control socket, which it does at its exit.
        failure: The error that prevented its start: kind and text.
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
    failure: tuple[str, str] | None = None
    _unread: bytes = b""

    @classmethod
    def start(cls, number: int, listeners: Iterable[socket.socket], tables: Sequence[int]) -> Self:
        """Start worker ``number``, which inherits ``listeners`` and the descriptors ``tables``.

        Raises:
            OSError: There are too many processes, or there is too little memory.
        """
        ours, theirs = socket.socketpair()
        descriptors = [listener.fileno() for listener in listeners]
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603 - Python itself
                    # -P: a folder `gatewave` in the working directory is not this package.
                    [sys.executable, "-P", "-m", "gatewave.service.processes.worker"]
                    + [f"--tables={','.join(map(str, tables))}"]
                    + [str(given) for given in (theirs.fileno(), number, *descriptors)],
                    pass_fds=(theirs.fileno(), *descriptors, *tables),
                    # A process group of its own: its child processes end with it, even if it
                    # crashes.
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise
        return cls(number, process, ours)

    @property
    def has_started(self) -> bool:
        """Return True if it has ever accepted connections."""
        return self.started_at is not None

    def tell(self, line: str) -> None:
        """Send a message; a worker that has ended ignores it."""
        with contextlib.suppress(OSError):  # Its end is noticed elsewhere.
            self.control.sendall(line.encode() + b"\n")

    def read(self) -> list[str] | None:
        """Return the complete messages that have arrived; None at the end of the stream."""
        try:
            received = self.control.recv(MAX_READ)
        except OSError:  # The worker was killed with unread data.
            received = b""
        self.silent = 0.0
        if not received:
            return None
        *lines, self._unread = (self._unread + received).split(b"\n")
        return [line.decode() for line in lines]

    def kill(self) -> None:
        """Kill it and its process group, which includes the trials of models."""
        self.process.kill()
        self.kill_group()

    def kill_group(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)


def reap_orphans(ours: set[int]) -> None:
    """Collect ended processes that are not in ``ours``.

    The first process of a container inherits the children of ended processes.
    """
    if not hasattr(os, "waitid"):
        return
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in ours:
                return
            os.waitpid(ended.si_pid, 0)
