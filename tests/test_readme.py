"""Examples of the README, run unchanged; the output must be the printed one."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment, serving

from gatewave.service.settings import Settings

README = Path(__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
SERVING = DOCS / "serving.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
PORT = "localhost:8000"

BLOCKS = BLOCK.findall(README.read_text())
COMMANDS = [text for kind, text in BLOCKS if kind == "console"]
PROGRAMS = [
    (text, output)
    for (kind, text), (following, output) in itertools.pairwise(BLOCKS)
    if kind == "python" and following == "text"
]


@pytest.fixture(scope="module")
def server(artifacts):
    with serving(artifacts, GATEWAVE_THREADS="2") as server:
        yield server


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory):
    """Return a folder with the environment and the artifacts where the README has them."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "artifacts").mkdir()
    for path in artifacts.iterdir():
        (folder / "artifacts" / path.name).symlink_to(path)
    return folder


def same(got, said):
    """Check that two texts agree, except for last digits of numbers: they vary by processor."""
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (got, said)]
    words = [NUMBER.sub("#", text).strip() for text in (got, said)]
    assert words[0] == words[1]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-6, abs=2e-7)


def steps(block):
    """Return the commands of a console block, each with its expected output."""
    for step in block.split("$ ")[1:]:
        lines = step.splitlines()
        end = 1
        while subprocess.run(
            ["bash", "-n"],
            input="\n".join(lines[:end]),
            text=True,
            stderr=subprocess.PIPE,
            check=False,
        ).stderr:
            end += 1
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def run(command, folder):
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment(COLUMNS="1000", PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("block", COMMANDS, ids=range(len(COMMANDS)))
def test_the_commands_print_what_is_said(block, folder, server):
    for command, said in steps(block):
        local = command.replace(PORT, server.url.removeprefix("http://"))
        same(run(["bash", "-c", local], folder), said)


@pytest.mark.parametrize(("program", "said"), PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_programs_print_what_is_said(program, said, folder, server):
    local = program.replace(f"http://{PORT}", server.url)
    same(run([sys.executable, "-W", "ignore", "-c", local], folder), said)


def test_there_are_examples():
    assert len(COMMANDS) >= 6
    assert len(PROGRAMS) >= 2


def test_every_setting_is_listed_with_its_default():
    rows = re.findall(r"^\| `(GATEWAVE_\w+)` \| `([^`]*)` \|", SERVING.read_text(), re.MULTILINE)
    fields = Settings.model_fields.items()
    assert dict(rows) == {f"GATEWAVE_{n.upper()}": str(field.default) for n, field in fields}


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text()):
        assert (page.parent / target).exists(), target
