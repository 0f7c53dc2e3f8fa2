"""Processes of foreign code, which may crash or hang without affecting others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, cast

from gatewave.graphs.processes.errors import Lost, NotStarted
from gatewave.graphs.processes.reasons import last_words

GRACE = 2.0
"""Seconds that a process may take to end by itself once its input is closed."""


class Process:
    """A program that reads requests and writes responses, and is to end when `requests` ends.

    Its child processes end with it at the latest, and its temporary files are removed then.

    Args:
        command: The program and its arguments.
        variables: Its environment variables.

    Attributes:
        requests: Its standard input.
        responses: Its standard output.

    Raises:
        NotStarted: The program is missing, or the system does not start it.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        with contextlib.ExitStack() as opened:
            try:
                # A file and not a pipe: a pipe that is not read fills up, and stops the program.
                self._errors = opened.enter_context(tempfile.TemporaryFile())
                self._scratch = tempfile.TemporaryDirectory()
                opened.callback(self._scratch.cleanup)
                self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    # A killed process removes no temporary files; this folder is removed for it.
                    env={**variables, "TMPDIR": self._scratch.name},
                    # Its own group, so that compilers which it has started are killed with it.
                    process_group=0,
                )
            except OSError as error:
                raise NotStarted(f"cannot be started: {error}") from error
            opened.pop_all()  # `close` closes them
        self.requests = cast("IO[bytes]", self._process.stdin)
        self.responses = cast("IO[bytes]", self._process.stdout)

    @contextlib.contextmanager
    def answering(self, seconds: float, task: str = "") -> Iterator[None]:
        """Limit the time of an exchange with the process, and report its end.

        The process is killed when the time is over, which ends a read of its responses.

        Raises:
            Lost: The process ended, or took longer than ``seconds`` for the ``task``.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, BrokenPipeError) as error:
            if late.is_set():
                raise Lost(f"took more than {seconds:g} seconds", task=task, late=True) from error
            raise Lost(f"crashed the process, {self._end()}", task=task) from error
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process: close its input, and kill it if it does not end by itself."""
        if self.responses.closed:  # its process id may belong to another process by now
            return
        with contextlib.suppress(BrokenPipeError):  # unsent bytes of a request to a dead process
            self.requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._kill()
        self._process.wait()
        self.responses.close()
        self._errors.close()
        self._scratch.cleanup()

    def _kill(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> str:
        """Describe the end of the process, with its last output."""
        status = self._process.wait()
        end = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self._errors.seek(0)
        words = last_words(self._errors.read().decode(errors="replace"))
        return f"{end}: {words}" if words else end
