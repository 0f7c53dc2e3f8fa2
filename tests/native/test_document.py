"""Page about the kernels: its text comes from the library, and its program runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "kernels.md"


def test_the_page_is_what_the_library_says(library):
    command = [sys.executable, ROOT / "native" / "document.py", "--check", "--library", library]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, check=False, env=environment)
    assert done.returncode == 0, "`python native/document.py` writes docs/kernels.md anew"


def test_the_program_on_the_page_runs(library, artifacts, tmp_path, monkeypatch):
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "libgatewave.so").symlink_to(library)
    (tmp_path / "artifacts").symlink_to(artifacts)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(program, names)  # noqa: S102 - the page's own
    a, b = np.float64([0.5, -1]), np.float64([1, -1])
    assert names["y"] == pytest.approx(a * b / (1 + np.exp(-a)), rel=1e-6)
