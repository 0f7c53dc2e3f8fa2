"""Adding an activation is one file and one name: everything else follows.

In a copy of the project, a new file in `models/` and a name in its tuple; then the graphs, the
endpoints, the plots, the documentation and the tests of every room have it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import copy_checkout

ROOT = Path(__file__).parent.parent

SOFTSIGN = '''
"""Softsign: x / (1 + |x|)."""

from __future__ import annotations

from typing import Any

import sympy
import torch
from torch import Tensor, nn

from gatewave.models.activation import Activation, Operator
from gatewave.models.bounds import GATED
from gatewave.models.symbols import x as symbol
from gatewave.models.torch_ops import rounded_once


class Softsign(nn.Module):
    """``x / (1 + |x|)``."""

    @rounded_once
    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + torch.abs(x))


def value(op: Any, x: Any) -> Any:
    return op.Div(x, op.Add(op.Abs(x), 1.0))


def partials(op: Any, x: Any) -> tuple[Any]:
    root = op.Div(1.0, op.Add(op.Abs(x), 1.0))
    return (op.Mul(root, root),)


SOFTSIGN = Activation(
    name="softsign",
    title="Softsign",
    summary="A sigmoid with polynomial tails.",
    inputs=("x",),
    operators=(
        Operator(
            op_type="Softsign",
            formula=symbol / (1 + sympy.Abs(symbol)),
            module=Softsign,
            value=value,
            partials=partials,
            tolerances=GATED,
            derivative_tolerances=GATED,
        ),
    ),
    source="https://www.example.org/softsign",
    example={"x": (-2.0, -0.5, 0.5, 1.0, 3.0)},
    plot_range=(-6.0, 6.0),
    properties=("Odd, bounded by 1.",),
    uses=("Recurrent networks.",),
    limits=("At infinity ∞/∞ is NaN.",),
)
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with one more file, and one more name."""
    copy = copy_checkout(tmp_path_factory.mktemp("project"), "tests", "docs", "pyproject.toml")
    (copy / "models" / "softsign.py").write_text(SOFTSIGN)
    names = copy / "models" / "catalogue.py"
    source = names.read_text().replace(
        "from gatewave.models.swiglu",
        "from gatewave.models.softsign import SOFTSIGN\nfrom gatewave.models.swiglu",
    )
    names.write_text(re.sub(r"in \((SINC\b)", r"in (SOFTSIGN, \1", source))
    return copy


def python(copy, *arguments):
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return ended.stdout


COMMAND = ("-c", "from gatewave.cli.main import main; main()")


@pytest.fixture(scope="module")
def exported(copy):
    python(copy, *COMMAND, "export", "softsign", "-o", "artifacts")
    return copy / "artifacts"


def test_its_graphs_and_its_plots_are_exported(exported):
    files = {path.name for path in exported.iterdir()}
    assert len(files) == 3 * 4 * 2 + 2 + 1
    assert {
        "manifest.json",
        "softsign.svg",
        "softsign.png",
        "softsign.vjp.bfloat16.decomposed.onnx",
    } <= files


def test_the_service_has_its_endpoints(copy, exported):
    client = """
import json
from fastapi.testclient import TestClient
from gatewave import Settings, create_app
client = TestClient(create_app(Settings(artifacts="artifacts")))
request = {"activation": "softsign", "inputs": {"x": [1, -3]}, "outputs": ["y", "dy_dx"]}
paths = ["", "/plot.svg", "/plot.png", "/model.onnx"]
found = [client.get("/activations/softsign" + path).status_code for path in paths]
print(json.dumps([client.post("/activate", json=request).json()["outputs"], found]))
"""
    assert exported.is_dir()
    outputs, found = json.loads(python(copy, "-c", client).splitlines()[-1])
    assert outputs == {"y": [0.5, -0.75], "dy_dx": [0.25, 0.0625]}
    assert found == [200, 200, 200, 200]


def test_the_documentation_has_its_page(copy):
    python(copy, "-m", "gatewave.certificates.report.docs")
    assert "Softsign" in (copy / "docs" / "activations.md").read_text()
    assert (copy / "docs" / "plots" / "softsign.svg").is_file()


def test_the_rooms_tests_try_it_too(copy):
    output = python(
        copy,
        "-m",
        "pytest",
        "-q",
        "-k",
        "softsign",
        "tests/models",
        "tests/export",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=--import-mode=importlib",
    )
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None, output
    assert int(passed[1]) > 20, output
