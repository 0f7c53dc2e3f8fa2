"""Environments of runtimes, made once from pinned lists of requirements."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.processes.client import (
    OWN_PYTHON,
    foreign_variables,
    node_worker,
    own_variables,
    python_worker,
)

VARIABLE = "GATEWAVE_RUNTIMES"
"""Variable with the folder of environments; the default is in the user's cache."""

MADE = "made"
"""File in each complete environment, with the list that it was made from."""

WORKERS = Path(str(resources.files("gatewave.certificates.runtimes"))) / "workers"
REQUIREMENTS = Path(str(resources.files("gatewave.certificates.runtimes"))) / "requirements"

SILENT: Mapping[str, str] = {
    "OPENVINO_TELEMETRY_DISABLE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
"""Variables that turn off telemetry and log output of runtimes."""

NO_GPU: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": ""}
"""Variables that hide GPUs from runtimes that must compute on CPU."""

CUDA_DRIVER = "libcuda.so.1"


def folder() -> Path:
    """Return the folder of the environments."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or cache / "gatewave" / "runtimes").absolute()


def is_possible(runtime: Runtime) -> bool:
    """Return true if this machine has the hardware of ``runtime``: for CUDA, a driver."""
    if runtime.device == "cpu":
        return True
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return False
    return True


def is_installed(runtime: Runtime) -> bool:
    """Return true if its environment exists and matches the current list of requirements."""
    if not runtime.requirements:
        return True
    made = folder() / runtime.name / MADE
    return made.exists() and made.read_text(encoding="utf-8") == _listed(runtime)


def install(runtime: Runtime) -> None:
    """Make the environment of ``runtime``, in the place of an older one.

    Raises:
        NotRunnableError: The machine has no GPU for it, or a package cannot be installed; the
            message has the installer's output.
    """
    if is_installed(runtime):
        return
    if not is_possible(runtime):
        raise NotRunnableError(
            f"{runtime.title} needs an NVIDIA GPU: there is no driver here ({CUDA_DRIVER})"
        )
    environment = folder() / runtime.name
    shutil.rmtree(environment, ignore_errors=True)
    {"python": _install_python, "node": _install_node}[runtime.language](runtime, environment)
    (environment / MADE).write_text(_listed(runtime), encoding="utf-8")


def command(runtime: Runtime) -> list[str]:
    """Return the command that starts the worker of ``runtime``.

    Raises:
        NotRunnableError: Its environment is not installed.
    """
    if not is_installed(runtime):
        raise NotRunnableError(
            f"{runtime.title} is not installed: `gatewave runtimes install {runtime.name}`"
        )
    if runtime.language == "node":
        return node_worker(WORKERS / "host.mjs", runtime.worker, str(folder() / runtime.name))
    host = WORKERS / "host.py"
    return python_worker(host, runtime.worker, *runtime.options, python=python(runtime))


def python(runtime: Runtime) -> Path:
    """Return the Python of its environment, or our own."""
    return folder() / runtime.name / "bin" / "python" if runtime.requirements else OWN_PYTHON


def variables(runtime: Runtime) -> dict[str, str]:
    """Return the environment variables of the worker of ``runtime``."""
    hidden = NO_GPU if runtime.device == "cpu" else {}
    if not runtime.requirements:
        return {**own_variables(), **SILENT, **hidden}
    kept = foreign_variables()
    # Tools of the environment, such as IREE's compiler, are found before those of the system.
    scripts = folder() / runtime.name / "bin"
    path = os.pathsep.join([str(scripts), kept.get("PATH", os.defpath)])
    return {**kept, **SILENT, **hidden, "PATH": path}


def _listed(runtime: Runtime) -> str:
    """Return the requirements of the environment."""
    source = REQUIREMENTS / runtime.requirements
    if source.is_dir():
        source /= "package-lock.json"
    return source.read_text(encoding="utf-8")


def _install_python(runtime: Runtime, environment: Path) -> None:
    _run(runtime, [sys.executable, "-m", "venv", "--without-pip", str(environment)])
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    # These versions work together in the tests, although their metadata may disagree: onnx2tf 2.6.9
    # asks for Python 3.12, and runs with 3.11.
    options = ["--quiet", "--no-deps", "--ignore-requires-python", "--disable-pip-version-check"]
    requirements = str(REQUIREMENTS / runtime.requirements)
    _run(runtime, [*pip, "install", *options, "--requirement", requirements])


def _install_node(runtime: Runtime, environment: Path) -> None:
    shutil.copytree(REQUIREMENTS / runtime.requirements, environment)
    # Without scripts: that of onnxruntime-node downloads CUDA's libraries. Its package has what the
    # CPU needs.
    options = ["--ignore-scripts", "--silent", "--no-audit", "--no-fund", "--no-update-notifier"]
    _run(runtime, ["npm", "ci", *options], environment)


def _run(runtime: Runtime, arguments: list[str], where: Path | None = None) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - installers, with arguments of ours
            arguments, cwd=where, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise NotRunnableError(
            f"{runtime.title} cannot be installed: {arguments[0]} is missing on this machine"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise NotRunnableError(f"{runtime.title} cannot be installed: {said[-2000:]}")
