"""Environments made at first use: of many versions of ONNX Runtime with NumPy, and of exporters."""

import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENTS = Path(__file__).parents[1] / ".venv-matrix"

VERSIONS = ("1.20.1", "1.24.4", "1.27.0", "1.31.1", "1.32.0")
TOO_OLD = "1.16.3"
NUMPY = dict.fromkeys(VERSIONS, "2.4.6") | {TOO_OLD: "1.26.4"}
"""Which NumPy goes with which ONNX Runtime."""


def python_of(version):
    """The Python that imports this ONNX Runtime; the test is skipped where there is no wheel."""
    environment = ENVIRONMENTS / version
    if not (environment / "made").exists():
        make(environment, version)
    return environment / "bin/python"


def make(environment, version):
    subprocess.run(
        [sys.executable, "-m", "venv", "--clear", "--without-pip", environment], check=True
    )
    install = ["install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    packages = [f"onnxruntime=={version}", f"numpy=={NUMPY[version]}"]
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python"]
    done = subprocess.run([*pip, *install, *packages], capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr:
        pytest.skip(f"onnxruntime {version} has no wheel for this Python: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    (environment / "made").touch()


SOURCES = Path(__file__).parent / "sources"


def python_of_source(name):
    """The Python that an exporter is installed for: what the list of its name makes."""
    environment, requirements = ENVIRONMENTS / "sources" / name, SOURCES / f"{name}.txt"
    made = environment / "made"
    if not made.exists() or made.read_text() != requirements.read_text():
        venv = [sys.executable, "-m", "venv", "--clear", "--without-pip", environment]
        subprocess.run(venv, check=True)
        pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python"]
        quiet = ["install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, *quiet, "--requirement", requirements], check=True)
        made.write_text(requirements.read_text())
    return environment / "bin/python"
