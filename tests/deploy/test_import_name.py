"""The package as users install it: one import name, beside folders of theirs with other names.

A project of theirs has packages called as our folders are. The wheel and the editable install must
work there, in their code and as a command. Dependencies come from the environment of the tests.
"""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkouts import ROOT, copy_checkout
from processes import serving

FILES = ("LICENSE", "README.md", "hatch_build.py", "pyproject.toml")
ONE = ("--graph", "value", "--dtype", "float32")
THEIRS = ("certificates", "cli", "export", "graphs", "models", "service", "tests")

MINE = """
import models
import torch

class Mish(torch.nn.Module):
    def forward(self, x):
        return models.SCALE * x * torch.tanh(torch.nn.functional.softplus(x))
"""

USE = """
import export, graphs, models, service, tests
import gatewave
from gatewave.models import Sinc, SwiGLU
from gatewave.service.settings import Settings
assert models.SCALE == 1.0 and not hasattr(models, "ACTIVATIONS")
print(gatewave.__file__, gatewave.__version__, SwiGLU.__name__, gatewave.ACTIVATIONS["sinc"].name)
"""


@dataclass
class Installation:
    python: Path
    project: Path

    def run(self, *arguments):
        return subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=self.project,
            env=outside(),
            capture_output=True,
            text=True,
            check=False,
        )


def outside():
    """Return the environment of a user's process: nothing leads to this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a distribution is made from."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"), *FILES, ignored=["*.so"])


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--wheel-dir", folder, checkout)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    packages = Path(next(folder.glob("venv/lib/python*/site-packages")))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    editable = request.param == "editable"
    what = ("--editable", checkout) if editable else (request.getfixturevalue("wheel"),)
    pip(sys.executable, "--python", python, "install", *what)
    project = folder / "project"
    for name in THEIRS:
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("SCALE = 1.0\n")
    (project / "mine.py").write_text(MINE)
    (project / "use.py").write_text(USE)
    return Installation(python, project)


def pip(python, *arguments):
    local = ("--no-deps", "--no-build-isolation")
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *map(str, arguments), *local],
        env={**outside(), "GATEWAVE_BUILD_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_the_wheel_has_one_top_level_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"gatewave"}
    assert {
        "gatewave/py.typed",
        "gatewave/__main__.py",
        "gatewave/cli/main.py",
        "gatewave/models/sinc.py",
        "gatewave/graphs/files/files.py",
        "gatewave/service/app.py",
    } <= {*names}
    assert any(name.endswith("_pb2.py") for name in names)


def test_the_source_distribution_makes_the_same_wheel(checkout, wheel, tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist"]
    subprocess.run([*command, "--directory", tmp_path], cwd=checkout, check=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    pip(sys.executable, "wheel", "--wheel-dir", tmp_path, sdist)
    (again,) = tmp_path.glob("*.whl")
    names, expected = (sorted(zipfile.ZipFile(path).namelist()) for path in (again, wheel))
    assert names == expected


def test_a_project_with_the_same_folder_names_imports_both(installed):
    done = installed.run("use.py")
    assert done.returncode == 0, done.stderr
    path, *words = done.stdout.split()
    assert not Path(path).is_relative_to(ROOT)
    assert words[1:] == ["SwiGLU", "sinc"]


def test_other_names_of_the_checkout_are_not_importable(installed):
    done = installed.run("-c", "import sys; sys.path.remove(''); import models")
    assert "No module named 'models'" in done.stderr


def test_their_module_is_exported_and_served(installed, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = (installed.python, "-m", "gatewave")
    done = installed.run(*command[1:], "export", "mine:Mish", *ONE, "-o", tmp_path / "artifacts")
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(tmp_path / "artifacts", program=command, cwd=installed.project) as server:
        answer = server.post("/activate", {"activation": "mish", "inputs": {"x": [0.0, 1.0]}})
    assert answer["outputs"]["y"] == pytest.approx([0.0, 0.86509839], abs=1e-6), json.dumps(answer)
