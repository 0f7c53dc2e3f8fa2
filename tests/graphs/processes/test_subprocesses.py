"""Foreign processes, their children, and their temporary files."""

import os
import select
import sys
import tempfile
from pathlib import Path

import pytest

from gatewave.graphs.processes.errors import Lost, NotStarted
from gatewave.graphs.processes.subprocesses import Process

STARTS_ANOTHER = """
import subprocess, sys, tempfile
tempfile.mkstemp()
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=2)
print(other.pid, tempfile.gettempdir(), flush=True)
sys.stdin.read(int(sys.argv[1]))
"""
ENDS = "0"
HANGS = "-1"


def started(how):
    """Start a process; return it, a descriptor of its child process, and its temporary folder."""
    process = Process([sys.executable, "-c", STARTS_ANOTHER, how], os.environ)
    other, scratch = process.responses.readline().split()
    return process, os.pidfd_open(int(other)), Path(scratch.decode())


def ends(descriptor, seconds=10):
    return bool(select.select([descriptor], [], [], seconds)[0])


def asked(process):
    """Wait for an answer; the process gives no answer within the time limit, or ends."""
    with process.answering(0.1):
        if not process.responses.read(1):
            raise EOFError


def test_what_takes_too_long_ends_with_all_that_it_started():
    process, other, scratch = started(HANGS)
    with pytest.raises(Lost, match="took more than"):
        asked(process)
    assert ends(other)
    process.close()
    assert not scratch.exists()
    os.close(other)


def test_what_has_ended_leaves_nothing():
    process, other, scratch = started(ENDS)
    assert not ends(other, 0)
    assert list(scratch.iterdir())
    process.close()
    assert ends(other)
    assert not scratch.exists()
    os.close(other)


def test_what_cannot_be_started_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotStarted, match=r"^cannot be started: .*No such file") as lost:
        Process([str(tmp_path / "python")], {})
    # The traceback holds the half-made process: this is not the work of the garbage collector.
    assert lost.traceback
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_for_temporary_files_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "removed"))
    with pytest.raises(NotStarted, match=r"^cannot be started: "):
        Process([sys.executable], {})
