"""Modules that commands load: imports take most of the time of a short command."""

import subprocess
import sys

import onnx
import onnx.parser
import pytest

CODE = """
import sys
from gatewave.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""

HEAVY = {"torch", "onnxscript", "onnxruntime", "matplotlib", "fastapi", "pyarrow", "sympy.core"}
"""`sympy` itself is known to onnx_ir, and executed only when an attribute of it is read."""

MODEL = """<ir_version: 8, opset_import: ["": 17]> g (float[n, 4] x) => (float[n, 4] y) {
    s = Sigmoid(x) y = Mul(x, s)
}"""


def loaded(*arguments):
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {*done.stderr.split()}


@pytest.mark.parametrize("command", [(), ("fuse",), ("serve",)], ids="".join)
def test_help_loads_no_library_that_computes(command):
    names = loaded(*command, "--help")
    assert not names & {*HEAVY, "numpy", "onnx", "onnx_ir"}


def test_inspect_loads_no_framework(tmp_path):
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    names = loaded("inspect", tmp_path / "model.onnx")
    assert "onnx_ir" in names
    assert not names & HEAVY
