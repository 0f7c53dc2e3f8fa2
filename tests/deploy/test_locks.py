"""Pinned contents of images: base images by digest, packages by their hashes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy/locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()

PYTHON = {"build": "3.11", "cpu": "3.11", "export": "3.11", "gpu": "3.12"}
"""Lock files, and the Python of the image that installs each."""


def required(*extras):
    """Return the requirements of the project with ``extras``, and with the extras they include."""
    found = [*PROJECT["project"]["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"][extra]):
            own = requirement.name == PROJECT["project"]["name"]
            found += required(*requirement.extras) if own else [str(requirement)]
    return found


WANTED = {
    "build": [*PROJECT["build-system"]["requires"], "cmake"],
    "cpu": required("cpu"),
    "gpu": required("gpu"),
    "export": required("cpu", "export"),
}


def pins(text):
    """Return the version of each package in a requirements file, and its hashes."""
    lines = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ").splitlines()
    found = {}
    for line in lines:
        pin, *hashes = line.split()
        name, version = pin.split("==")
        found[canonicalize_name(name)] = version, hashes
    return found


def lock(name):
    return pins((LOCKS / f"{name}.txt").read_text())


def test_each_lock_is_known_and_installed_with_its_hashes():
    assert {path.name for path in LOCKS.iterdir()} == {f"{name}.txt" for name in PYTHON}
    runs = [line for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines() if "pip" in line]
    installs = [part for line in runs for part in line.split("&&") if " install " in part]
    locked = [part for part in installs if "/locks/" in part]
    assert {re.search(r"/locks/(\w+)", part)[1] for part in locked} == PYTHON.keys()
    for part in locked:
        assert "--require-hashes --no-deps" in part
    for part in set(installs) - set(locked):
        assert "--no-deps --no-index" in part or "apt-get" in part, "it is built here"


@pytest.mark.parametrize("name", PYTHON)
def test_a_lock_has_the_versions_of_the_constraints_with_hashes(name):
    known = {
        pin: version for pin, (version, _) in pins((ROOT / "constraints.txt").read_text()).items()
    }
    for pin, (version, hashes) in lock(name).items():
        public, _, local = version.partition("+")
        assert known[pin] == public
        assert local == ("cpu" if pin == "torch" else "")
        assert hashes
        for each in hashes:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each)


@pytest.mark.parametrize("name", PYTHON)
def test_a_lock_meets_the_project_requirements(name):
    locked = lock(name)
    for requirement in map(Requirement, WANTED[name]):
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version)


def test_serving_images_differ_in_the_runtime_only():
    cpu, gpu = lock("cpu"), lock("gpu")
    assert cpu.pop("onnxruntime")
    assert gpu.pop("onnxruntime-gpu")
    assert cpu == gpu


def test_base_images_are_pinned_by_their_digest():
    bases = re.findall(r"(?m)^FROM (\S+) AS (\S+)", DOCKERFILE)
    stages = {name for _, name in bases}
    others = [base for base, _ in bases if base not in stages | {"scratch"}]
    assert len(others) == 4
    for base in others:
        assert re.fullmatch(r"\S+:\d+\.\d+\.\d+\S*@sha256:[0-9a-f]{64}", base)
    pythons = {base for base in others if base.startswith("python:")}
    assert len(pythons) == 1, "what is installed in one is run in the other"


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["build", "cpu", "gpu"])
def test_a_lock_can_be_installed(name, tmp_path):
    """Downloads the packages from PyPI; the packages of Torch are on another index."""
    files = ("--requirement", str(LOCKS / f"{name}.txt"), "--target", str(tmp_path))
    only = ("--only-binary", ":all:", "--python-version", PYTHON[name])
    pip = (sys.executable, "-m", "pip", "install", "--dry-run", "--require-hashes", "--no-deps")
    done = subprocess.run([*pip, *files, *only], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
