"""Prerequisites in the Makefile: the artifacts are exported again if their sources change."""

import os
import shutil
import subprocess

import pytest
from checkouts import copy_checkout

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")

LATER = 2_000_000_000
"""Modification time of everything that is up to date, after that of every file."""

SHAPING = (
    "certificates/runtimes/catalogue.py",
    "certificates/runtimes/defects.yaml",
    "certificates/runtimes/requirements/tract.txt",
    "certificates/report/docs.py",
    "cli/commands/export.py",
    "export/artifacts.py",
    "graphs/ops/signature.py",
    "models/sinc.py",
    "src/gatewave/__init__.py",
    "constraints.txt",
    "pyproject.toml",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy without git, in which everything seems to be made."""
    more = ("Makefile", "pyproject.toml", "constraints.txt", "hatch_build.py")
    copy = copy_checkout(tmp_path_factory.mktemp("checkout"), *more)
    for stamp in (".venv/.made", ".venv/.serve", "artifacts/.stamp"):
        path = copy / stamp
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (LATER, LATER))
    return copy


def is_current(checkout):
    command = ["make", "--question", "artifacts/.stamp"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode == 0


@pytest.fixture
def changed(checkout):
    """Return a function that makes a file newer than the artifacts, for the time of a test."""
    before = {}

    def change(name):
        path = checkout / name
        before[path] = path.stat().st_mtime
        os.utime(path, (LATER + 1, LATER + 1))

    yield change
    for path, time in before.items():
        os.utime(path, (time, time))


@pytest.mark.parametrize("name", SHAPING)
def test_a_change_of_what_shapes_the_artifacts_exports_them_again(checkout, changed, name):
    assert is_current(checkout)
    changed(name)
    assert not is_current(checkout)


def test_a_new_file_of_a_room_exports_them_again(checkout):
    new = checkout / "graphs" / "data.bin"
    new.touch()
    os.utime(new, (LATER + 1, LATER + 1))
    assert not is_current(checkout)
    new.unlink()
    assert is_current(checkout)


@pytest.mark.parametrize("name", ["service/app.py", "service/http/server.py", "Makefile"])
def test_a_change_of_the_service_keeps_the_artifacts(checkout, changed, name):
    changed(name)
    assert is_current(checkout)
