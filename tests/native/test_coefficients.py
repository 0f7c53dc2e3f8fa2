"""Coefficients in the header: equal to the output of their script."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

MATHEMATICS = Path(__file__).parents[2] / "native" / "mathematics"


@pytest.fixture
def script(tmp_path):
    """Return a copy of the script beside a copy of its header."""
    for name in ("coefficients.py", "coefficients.h"):
        (tmp_path / name).write_text((MATHEMATICS / name).read_text())
    return tmp_path / "coefficients.py"


def check(script):
    return subprocess.run([sys.executable, script, "--check"], check=False).returncode


def test_coefficients_are_what_their_script_makes(script):
    assert check(script) == 0


def test_a_changed_coefficient_is_noticed(script):
    header = script.with_name("coefficients.h")
    before = header.read_text()
    number = re.search(r"\d\.\d+", before).group()
    header.write_text(before.replace(number, number + "1", 1))
    assert check(script) != 0
