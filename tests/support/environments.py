"""Environments made at first use: of many versions of ONNX Runtime with NumPy, and of exporters."""

import subprocess
import sys
from pathlib import Path

import pytest
from sharing import alone

from gatewave.certificates.runtimes import environments

ENVIRONMENTS = Path(__file__).parents[2] / ".venv-matrix"

VERSIONS = ("1.20.1", "1.24.4", "1.27.0", "1.31.1", "1.32.0")
TOO_OLD = "1.16.3"
NUMPY = dict.fromkeys(VERSIONS, "2.4.6") | {TOO_OLD: "1.26.4"}
"""Version of NumPy for each version of ONNX Runtime."""


def python_of(version):
    """Return the Python that imports this ONNX Runtime; skip the test if no wheel exists."""
    environment = ENVIRONMENTS / version
    with alone(ENVIRONMENTS / f".{version}.lock"):
        if not (environment / "made").exists():
            make(environment, version)
    return environment / "bin/python"


def make(environment, version):
    packages = [f"onnxruntime=={version}", f"numpy=={NUMPY[version]}"]
    done = _installed(environment, packages)
    if "No matching distribution" in done.stderr:
        pytest.skip(f"onnxruntime {version} has no wheel for this Python: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    (environment / "made").touch()


def _installed(environment, what):
    """Make an environment, install packages into it, and return the finished pip process."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--clear", "--without-pip", environment], check=True
    )
    install = ["install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python"]
    return subprocess.run([*pip, *install, *what], capture_output=True, text=True, check=False)


SOURCES = Path(__file__).parents[1] / "sources"


def python_of_source(name):
    """Return the Python of an exporter, installed from the list of the same name."""
    environment, requirements = ENVIRONMENTS / "sources" / name, SOURCES / f"{name}.txt"
    made = environment / "made"
    with alone(ENVIRONMENTS / f".{name}.lock"):
        if not made.exists() or made.read_text() != requirements.read_text():
            done = _installed(environment, ["--requirement", requirements])
            assert done.returncode == 0, done.stderr
            made.write_text(requirements.read_text())
    return environment / "bin/python"


def install(runtime):
    """Make the environment of a runtime of the catalogue, in one worker at a time."""
    with alone(environments.folder() / f".{runtime.name}.lock"):
        environments.install(runtime)
