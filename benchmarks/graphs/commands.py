"""Run a `gatewave` command in its own process, and measure its time, memory and output."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERVAL = 0.01
"""Seconds between two samples of the memory."""

PAGE = os.sysconf("SC_PAGE_SIZE")

READ = """
import sys
from pathlib import Path
from gatewave.cli import main, model_files
from gatewave.graphs.rewrite import fuse, inspection
model_files.read(Path(sys.argv[1]))
"""
"""Program of the load of a command: Python, its imports, and reading the model."""


@dataclass(frozen=True)
class Ran:
    """Result of a command.

    Attributes:
        seconds: Time from its start to its end.
        peak: Peak memory of the command and all its child processes together, in bytes.
        document: The JSON that it printed, if any.
        error: Its error message, or a note that it took too long.
    """

    seconds: float
    peak: int
    document: Any = None
    error: str = ""


def load(model: Path, limit: float) -> Ran:
    """Run the load of a command: start Python, import, and read ``model``."""
    return _ran([sys.executable, "-c", READ, str(model)], limit)


def gatewave(*arguments: str | Path, limit: float) -> Ran:
    """Run a command with ``--json``, for at most ``limit`` seconds."""
    program = Path(sys.executable).with_name("gatewave")
    return _ran([str(program), *map(str, arguments), "--json"], limit)


def _ran(command: Sequence[str], limit: float) -> Ran:
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=said,
            start_new_session=True,
            env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
        )
        with _watched(process.pid) as peaks:
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Ran(time.perf_counter() - began, max(peaks), None, f"over {limit:g} s")
            seconds = time.perf_counter() - began
        printed.seek(0)
        said.seek(0)
        text, error = printed.read().decode(), said.read().decode(errors="replace").strip()
    return Ran(seconds, max(peaks), json.loads(text) if text.strip() else None, error)


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """Sample the memory of a process and its descendants; keep the maximum."""
    found, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL):
            found[0] = max(found[0], sum(map(_resident, _tree(pid))))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _tree(pid: int) -> Iterator[int]:
    """Yield the process and its running descendants."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield from _tree(int(child))


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0
