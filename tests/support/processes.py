"""Command `gatewave` in processes of its own, as users run it."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

GATEWAVE = [sys.executable, "-c", "from gatewave.cli.main import main; main()"]


def environment(**variables):
    inherited = {n: v for n, v in os.environ.items() if not n.startswith("GATEWAVE_")}
    return inherited | variables


def run(*arguments, program=GATEWAVE, **variables):
    """Run `gatewave` with ``arguments`` until it ends."""
    return subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment(**variables),
    )


def beginning_with(code, folder):
    """Return the environment of processes that run ``code`` first: the command, workers, trials.

    Python imports the module that is written to ``folder`` at the start of each.
    """
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.getenv("PYTHONPATH")]))}


def read(path):
    """Return a file of /proc; it is empty once the process or thread has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children():
    """Return the ids of the processes that this one has started."""
    lists = [read(path) for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pid in " ".join(lists).split()]


def trials():
    """Return the trials that this process has started and that have loaded ONNX Runtime."""
    return [
        pid
        for pid in children()
        if "repository.trial.program" in read(Path(f"/proc/{pid}/cmdline"))
        and "onnxruntime" in read(Path(f"/proc/{pid}/maps"))
    ]


def parsed(line):
    """Return a line of the log; a line of a crash becomes the message."""
    return json.loads(line) if line.startswith("{") else {"message": line}


@dataclass
class Server:
    process: subprocess.Popen
    url: str
    lines: queue.Queue = field(repr=False)

    def post(self, path, document, timeout=60):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return json.load(response)

    def get(self, path, timeout=10):
        with urllib.request.urlopen(self.url + path, timeout=timeout) as response:  # noqa: S310
            return response.status

    def log(self):
        """Return the lines logged since the last call."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(parsed(self.lines.get_nowait()))
        return lines

    def await_log(self, message, timeout=30):
        """Return the next line with ``message``; earlier lines are dropped."""
        until = time.monotonic() + timeout
        while True:
            line = parsed(self.lines.get(timeout=max(0, until - time.monotonic())))
            if line["message"] == message:
                return line

    def stop(self, timeout=30):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


@contextlib.contextmanager
def serving(artifacts, *options, program=GATEWAVE, until_ready=True, cwd=None, **variables):
    """Run `gatewave serve` on a free port, until the block ends.

    Args:
        artifacts: Folder of the activations.
        options: Options of the command.
        program: Command that is run.
        until_ready: Wait until all models were tried, not only for the port.
        cwd: Working directory; None is the current one.
        variables: Environment variables.
    """
    process = subprocess.Popen(
        [*program, "serve", "--port", "0", "--artifacts", str(artifacts), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=environment(**variables),
    )
    lines = queue.Queue()
    url = None
    for line in process.stdout:
        message = parsed(line)["message"]
        if message.startswith("serving on "):
            url = message.split()[-1]
        elif message == "ready":
            break
        else:
            lines.put(line)
        if url is not None and not until_ready:
            break
    if url is None:
        process.stdout.close()
        pytest.fail(f"the server ended with {process.wait(10)}")
    # Read on, or the pipe would fill and the server would wait.
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout])
    reader.start()
    try:
        yield Server(process, url, lines)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        reader.join(10)
        process.stdout.close()
