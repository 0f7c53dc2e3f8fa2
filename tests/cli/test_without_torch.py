"""Graph commands in an environment that has the extras ``graphs`` and ``cpu``, and no Torch.

Its packages are links to those of the environment of the tests: exactly the distributions that
`pyproject.toml` requires, and those that they require.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MODEL = """<ir_version: 8, opset_import: ["": 17]> g (float[n, 4] x) => (float[n, 4] y) {
    [first] h = Relu(x)
    [gate] s = Sigmoid(h)
    [silu] y = Mul(h, s)
}"""
NEW = """<ir_version: 13, opset_import: ["": 24]> g (float[n, 4] x) => (float[n, 4] y) {
    [silu] y = Swish<alpha = 1.5>(x)
}"""


def closure(requirements):
    """Return the names of the distributions that ``requirements`` need, themselves included."""
    found = {}
    waiting = [*requirements]
    while waiting:
        requirement = Requirement(waiting.pop())
        extras = found.setdefault(requirement.name.lower(), set())
        new = {"", *requirement.extras} - extras
        extras |= new
        for each in distribution(requirement.name).requires or () if new else ():
            marker = Requirement(each).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in new):
                waiting.append(each.partition(";")[0])
    return {*found}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of the environment."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    packages = Path(next(home.glob("lib/python*/site-packages")))
    extras = PROJECT["optional-dependencies"]
    names = closure([*PROJECT["dependencies"], *extras["graphs"], *extras["cpu"]])
    installed = Path(sysconfig.get_path("purelib"))
    tops = {file.parts[0] for name in names for file in distribution(name).files}
    for top in tops - {"..", "__pycache__"}:
        (packages / top).symlink_to(installed / top)
    (packages / "gatewave.pth").write_text(str(ROOT / "src"))
    return home / "bin" / "python"


@pytest.fixture
def gatewave(python, tmp_path):
    """Return a function that runs `gatewave` in that environment."""
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    onnx.save(onnx.parser.parse_model(NEW), tmp_path / "new.onnx")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["GATEWAVE_RUNTIMES"] = str(tmp_path / "runtimes")

    def run(*arguments):
        return subprocess.run(
            [python, "-m", "gatewave", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def document(ended):
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("name", ["torch", "onnxscript", "matplotlib", "pytest"])
def test_the_environment_lacks_packages_of_other_extras(python, name):
    code = f"import importlib.util; print(importlib.util.find_spec({name!r}))"
    assert subprocess.check_output([python, "-c", code], text=True) == "None\n"


def test_a_model_is_inspected(gatewave):
    found = document(gatewave("inspect", "model.onnx", "--target", "onnxruntime-1.31", "--json"))
    assert [activation["kind"] for activation in found["activations"]] == ["relu", "swish"]
    assert found["target"]["verdict"] == "runs"


def test_a_model_is_fused_and_the_result_verified(gatewave, tmp_path):
    made = document(gatewave("fuse", "model.onnx", "-o", "fused.onnx", "--json"))
    assert made["verified"]["holds"]
    assert operators(tmp_path / "fused.onnx") == ["Relu", "Swish"]
    report = document(gatewave("verify", "model.onnx", "fused.onnx", "--json"))
    assert (report["verdict"], report["level"]) == ("no difference found", "sampled")


def test_an_activation_is_swapped(gatewave, tmp_path):
    options = ("--from", "relu", "--to", "elu", "-o", "swapped.onnx", "--json")
    assert document(gatewave("swap", "model.onnx", *options))["run_by"]
    assert operators(tmp_path / "swapped.onnx") == ["Elu", "Sigmoid", "Mul"]


def test_a_model_is_lowered(gatewave, tmp_path):
    options = ("--target", "onnxruntime-1.20", "-o", "lowered.onnx", "--json")
    assert document(gatewave("lower", "new.onnx", *options))["verified"]["holds"]
    x = np.linspace(-4, 4, 8, dtype=np.float32).reshape(2, 4)
    (y,) = onnxruntime.InferenceSession(tmp_path / "lowered.onnx").run(None, {"x": x})
    np.testing.assert_allclose(y, x / (1 + np.exp(-1.5 * x)), rtol=1e-5, atol=1e-6)


def test_a_model_is_certified(gatewave):
    options = ("--runtimes", "reference,onnxruntime", "--json")
    (certificate,) = document(gatewave("certify", "model.onnx", *options))
    cells = {row["runtime"]: row["cells"] for row in certificate["rows"]}
    assert cells["reference"] == [], "its values are the baseline"
    assert [cell["verdict"] for cell in cells["onnxruntime"]] == ["exact"]


def test_runtimes_are_listed(gatewave):
    listed = document(gatewave("runtimes", "list", "--json"))["runtimes"]
    installed = {runtime["name"] for runtime in listed if runtime["installed"]}
    assert {"onnxruntime", "reference"} <= installed


@pytest.mark.parametrize(
    "arguments", [("export", "sinc"), ("certify", "sinc"), ("plot", "sinc")], ids=" ".join
)
def test_a_command_that_needs_torch_names_the_extra(gatewave, arguments):
    ended = gatewave(*arguments)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.endswith(
        "is not installed, and this needs it: pip install 'gatewave[export]'\n"
    )
