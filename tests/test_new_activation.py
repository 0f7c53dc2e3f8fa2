"""A new activation is one file and one name, of one input and of two.

A copy of the project gets two records, each with an operator that no other record uses. Neither
names a Torch module. The test is slow: it exports both, serves them, and runs tests of the rooms on
them, because a list of names anywhere in the project would go unnoticed otherwise.
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

IMPORTS = """
from __future__ import annotations

from typing import Any

from gatewave.models import elementary
from gatewave.models.activation import Activation, Operator
from gatewave.models.bounds import GATED, SLOPE
"""

ARCTAN = """
def value(op: Any, x: Any) -> Any:
    # ONNX Runtime has no Atan in float64.
    return op.Atan(x) if op.precision_bits == 24 else elementary.atan(op, x)


def partials(op: Any, x: Any) -> tuple[Any]:
    return (op.Div(1.0, op.Add(op.Mul(x, x), 1.0)),)


ARCTAN = Activation(
    name="arctan",
    title="Arctan",
    summary="A sigmoid with polynomial tails.",
    inputs=("x",),
    operators=(
        Operator(
            op_type="Arctan",
            formula="atan(x)",
            value=value,
            partials=partials,
            tolerances=GATED,
            derivative_tolerances=GATED,
        ),
    ),
    source="https://www.example.org/arctan",
    example={"x": (-2.0, -0.5, 0.5, 1.0, 3.0)},
    plot_range=(-6.0, 6.0),
    properties=("Odd, bounded by π/2.",),
    uses=("Recurrent networks.",),
    limits=("Saturates slowly.",),
)
"""

TANH_GLU = """
def value(op: Any, a: Any, b: Any) -> Any:
    return op.Mul(a, op.Tanh(b))


def partials(op: Any, a: Any, b: Any) -> tuple[Any, Any]:
    twice = op.Mul(b, 2.0)
    slope = op.Mul(op.Mul(op.Sigmoid(twice), 4.0), op.Sigmoid(op.Neg(twice)))
    return op.Tanh(b), op.Mul(a, slope)


TANH_GLU = Activation(
    name="tanhglu",
    title="TanhGLU",
    summary="A value, gated by the hyperbolic tangent of another.",
    inputs=("a", "b"),
    operators=(
        Operator(
            op_type="TanhGLU",
            formula="a*tanh(b)",
            value=value,
            partials=partials,
            tolerances=GATED,
            derivative_tolerances=SLOPE,
            scale=("a",),
        ),
    ),
    source="https://www.example.org/tanhglu",
    example={"a": (0.5, -1.0, 2.0), "b": (1.0, -1.0, 0.5)},
    plot_range=(-6.0, 6.0),
    properties=("Linear in the value a.",),
    uses=("Gated convolutions.",),
    limits=("The gate saturates.",),
)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with two more files, and two more names."""
    copy = copy_checkout(tmp_path_factory.mktemp("project"), "tests", "docs", "pyproject.toml")
    for name, record in (("arctan", ARCTAN), ("tanhglu", TANH_GLU)):
        (copy / "models" / f"{name}.py").write_text(IMPORTS + record)
    names = copy / "models" / "catalogue.py"
    source = names.read_text().replace(
        "from gatewave.models.swiglu",
        "from gatewave.models.arctan import ARCTAN\n"
        "from gatewave.models.tanhglu import TANH_GLU\n"
        "from gatewave.models.swiglu",
    )
    names.write_text(re.sub(r"in \((SINC\b)", r"in (ARCTAN, TANH_GLU, \1", source))
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
    python(copy, *COMMAND, "export", "arctan", "tanhglu", "-o", "artifacts")
    return copy / "artifacts"


def test_its_graphs_and_its_plots_are_exported(exported):
    files = {path.name for path in exported.iterdir()}
    assert len(files) == 2 * (3 * 4 * 2 + 2) + 1
    assert {
        "manifest.json",
        "arctan.svg",
        "arctan.png",
        "tanhglu.vjp.bfloat16.decomposed.onnx",
    } <= files


def test_the_service_has_its_endpoints(copy, exported):
    client = """
import json
from fastapi.testclient import TestClient
from gatewave import Settings, create_app
client = TestClient(create_app(Settings(artifacts="artifacts")))
def outputs(name, **inputs):
    names = ["y", *(f"dy_d{tensor}" for tensor in inputs)]
    request = {"activation": name, "inputs": inputs, "outputs": names}
    return client.post("/activate", json=request).json()["outputs"]
paths = ["", "/plot.svg", "/plot.png", "/model.onnx"]
print(json.dumps([
    outputs("arctan", x=[0, 1]),
    outputs("tanhglu", a=[2], b=[0]),
    [client.get("/activations/arctan" + path).status_code for path in paths],
]))
"""
    assert exported.is_dir()
    arctan, gated, found = json.loads(python(copy, "-c", client).splitlines()[-1])
    assert arctan == {"y": [0, pytest.approx(0.7853982)], "dy_dx": [1, 0.5]}
    assert gated == {"y": [0], "dy_da": [0], "dy_db": [2]}
    assert found == [200, 200, 200, 200]


def test_it_is_found_in_graphs(copy):
    fuse = """
import onnx, onnx_ir
from gatewave.graphs.rewrite.fuse import fuse
text = '''<ir_version: 8, opset_import: ["": 17]>
g (float[n] a, float[n] b) => (float[n] y, float[n] z)
{t = Tanh (b) y = Mul (a, t) s = Add (a, b) u = Neg (s) v = Atan (u) z = Neg (v)}'''
model = onnx_ir.from_proto(onnx.parser.parse_model(text))
fuse(model, kinds=["arctan", "tanhglu"])
print(*sorted(node.op_type for node in model.graph if node.domain))
"""
    assert python(copy, "-c", fuse).split() == ["Arctan", "TanhGLU"]


def test_the_documentation_has_its_page(copy):
    python(copy, "-m", "gatewave.certificates.report.docs")
    page = (copy / "docs" / "activations.md").read_text()
    assert "## Arctan" in page
    assert "## TanhGLU" in page
    assert (copy / "docs" / "plots" / "tanhglu.svg").is_file()


def test_its_torch_modules_are_picklable_names_of_models(copy):
    statements = (
        "import pickle; from gatewave.models import Arctan, TanhGLU; import torch; "
        "module = pickle.loads(pickle.dumps(TanhGLU())); "
        "print(module(torch.ones(1), b=torch.zeros(1)).item(), type(module) is TanhGLU)"
    )
    assert python(copy, "-c", statements) == "0.0 True\n"


def test_the_rooms_tests_try_it_too(copy):
    output = python(
        copy,
        "-m",
        "pytest",
        "-q",
        "-k",
        "(arctan or tanhglu) and not float64",
        "tests/models",
        "tests/export/test_operators.py",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=--import-mode=importlib",
    )
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None, output
    assert int(passed[1]) > 60, output
