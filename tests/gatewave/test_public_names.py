"""`import gatewave`: the names that it gives, and what it does not import for them."""

import subprocess
import sys

import pytest

import gatewave


@pytest.mark.parametrize("name", gatewave.__all__)
def test_every_public_name_is_there(name):
    assert getattr(gatewave, name) is not None
    assert name in dir(gatewave)


def test_the_public_names_are_these():
    assert gatewave.__all__ == [
        "ACTIVATIONS",
        "Activation",
        "Operator",
        "Settings",
        "create_app",
        "decomposed",
        "to_onnx",
        "torch_translations",
    ]


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = gatewave.nothing_of_the_kind


def test_serving_imports_nothing_that_only_export_needs():
    code = (
        "import sys, gatewave; gatewave.create_app; import gatewave.cli; "
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    heavy = {"torch", "onnx", "onnx_ir", "onnxscript", "sympy", "matplotlib", "models", "export"}
    assert not heavy & set(output.split())
