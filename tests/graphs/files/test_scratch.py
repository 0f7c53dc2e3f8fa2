"""Folders of killed commands: the next command that writes there removes them."""

import subprocess
import sys

import onnx_ir as ir
import pytest
from onnx_models import scaled

from gatewave.cli.files.replacement import replacing, scratch_file
from gatewave.export import artifacts
from gatewave.export.artifacts import Artifact
from gatewave.graphs.files import files, scratch
from gatewave.graphs.targets import probe

HOLDING = """
import pathlib, sys
from gatewave.graphs.files import scratch
from gatewave.cli.files.replacement import scratch_file
folder = pathlib.Path(sys.argv[1])
with scratch.folder_in(folder) as beside, scratch_file(folder):
    (beside / "part").write_text("half")
    print(flush=True)
    sys.stdin.read()
"""


def holding(folder):
    """Start a process that writes into ``folder``; return it and its files."""
    before = set(folder.iterdir())
    command = [sys.executable, "-c", HOLDING, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process, set(folder.iterdir()) - before


def test_only_folders_of_ended_processes_are_removed(tmp_path):
    (killed, stale), (running, held) = holding(tmp_path), holding(tmp_path)
    with killed, running:
        killed.kill()
        killed.wait(20)
        assert len(stale) == len(held) == 2
        (tmp_path / ".new-notes").mkdir()
        with scratch.folder_in(tmp_path) as beside:
            replace_file(tmp_path)
            (tmp_path / "out").unlink()
            assert set(tmp_path.iterdir()) == {*held, beside, tmp_path / ".new-notes"}
        running.stdin.close()
        running.wait(20)
    assert list(tmp_path.iterdir()) == [tmp_path / ".new-notes"]


def test_a_process_keeps_its_own(tmp_path):
    with scratch.folder_in(tmp_path) as one, scratch_file(tmp_path), scratch.folder_in(tmp_path):
        assert one.exists()
        assert len(list(tmp_path.iterdir())) == 3


def replace_file(folder):
    with replacing(folder / "out") as file:
        file.write(b"1")


WRITERS = {
    "artifacts": lambda folder: artifacts._replace(folder, [Artifact("out", b"1", {})]),
    "model": lambda folder: files.write(ir.from_proto(scaled(2)), folder / "out", source=None),
    "probe": lambda folder: probe._write(folder / "out", probe.Answer("1", (), ())),  # noqa: SLF001
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_command_that_writes_removes_what_is_stale(tmp_path, writer):
    (tmp_path / ".new-k3x_9abz").mkdir()
    (tmp_path / ".new-k3x_9abz" / "part").write_text("half")
    WRITERS[writer](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_leftover_of_killed_command_is_removed(tmp_path):
    (tmp_path / ".gatewave-0123456789abcdef.part").write_text("half")
    replace_file(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
