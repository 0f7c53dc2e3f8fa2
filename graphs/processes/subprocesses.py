"""Processes for foreign code, which may crash or hang without affecting others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from gatewave.graphs.processes.reasons import last_words

GRACE = 2.0
"""Seconds that a process may take to end by itself."""


class Ended(Exception):  # noqa: N818 - it is an answer
    """A process ended instead of answering; the message is the end of a sentence about its task.

    Attributes:
        late: True if it was ended because it took too long.
    """

    def __init__(self, how: str, *, late: bool) -> None:
        super().__init__(how)
        self.late = late


class Process:
    """A program that is written to and read from, and that is to end when `requests` ends.

    Its own child processes end with it at the latest, and its temporary files are removed then.

    Args:
        command: The program and its arguments.
        environment: Its variables.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._scratch = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(  # noqa: S603 - chosen by us
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**environment, "TMPDIR": self._scratch.name},
            process_group=0,
        )
        self.requests = cast("IO[bytes]", self._process.stdin)
        self.answers = cast("IO[bytes]", self._process.stdout)

    @contextlib.contextmanager
    def answering(self, seconds: float) -> Iterator[None]:
        """While open, the process is asked something, and answers.

        Raises:
            Ended: It crashed, which a reader of its answers sees as their end, or it took longer
                than ``seconds``.
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
                raise Ended(f"took more than {seconds:g} seconds", late=True) from error
            raise Ended(f"crashed the process, {self._end()}", late=False) from error
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process: close its input, and kill it if it does not end by itself."""
        if self.answers.closed:  # its number may be another's by now
            return
        with contextlib.suppress(BrokenPipeError):  # what was left to be sent to a dead process
            self.requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._kill()
        self._process.wait()
        self.answers.close()
        self._errors.close()
        self._scratch.cleanup()

    def _kill(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> str:
        """Describe the end of the process, with its last output."""
        status = self._process.wait()
        end = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self._errors.seek(0)
        words = last_words(self._errors.read().decode(errors="replace"))
        return f"{end}: {words}" if words else end


def own_python(*arguments: str) -> Process:
    """Start this same Python, with the modules that this process finds."""
    variables = {"PYTHONPATH": own_paths(), "ORT_DISABLE_TELEMETRY": "1"}
    return Process([sys.executable, "-P", *arguments], {**os.environ, **variables})


def own_paths() -> str:
    """Return the folders that this process imports from, as PYTHONPATH has them.

    Not the folder that it happens to be in: a model's folder may hold a ``numpy.py``.
    """
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
