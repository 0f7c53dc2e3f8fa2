"""Defects of exporters in docs/portability.md: each program prints the stated output."""

import re
import subprocess
import sys
from importlib import resources

import pytest
from environments import python_of_source

TEXT = (resources.files("gatewave.certificates.report") / "exporters.md").read_text(
    encoding="utf-8"
)
SECTION = re.compile(
    r"^### (\S+) ([^:]+): .*?```python\n(.*?)```\n\n```text\n(.*?)```", re.MULTILINE | re.DOTALL
)


def cases():
    for exporter, version, program, printed in SECTION.findall(TEXT):
        ours = exporter == "Torch"
        marks = [] if ours else [pytest.mark.matrix]
        name = f"{exporter}-{len(program)}"
        yield pytest.param(exporter, version, program, printed, id=name, marks=marks)


def test_there_is_a_program_for_each():
    assert len(SECTION.findall(TEXT)) == TEXT.count("\n### ") == 3


@pytest.mark.parametrize(("exporter", "version", "program", "printed"), [*cases()])
def test_what_it_prints_is_what_is_said(exporter, version, program, printed, tmp_path):
    python = sys.executable if exporter == "Torch" else python_of_source(exporter)
    command = [python, "-P", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith(printed), done.stdout
    package = exporter.lower()
    asked = f"from importlib.metadata import version; print(version('{package}'))"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip().partition("+")[0] == version
