"""Public names of the package, and the modules that importing it loads."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from processes import GATEWAVE

import gatewave
from gatewave import models


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
        "__version__",
        "create_app",
        "decomposed",
        "models",
        "to_onnx",
        "torch_translations",
    ]


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = gatewave.nothing_of_the_kind


@pytest.mark.parametrize("name", models.__all__)
def test_models_give_their_modules_and_records(name):
    assert getattr(models, name) is not None
    assert name in dir(models)


def test_the_public_models_are_sorted_and_complete():
    named = {
        operator.class_name
        for activation in models.ACTIVATIONS.values()
        for operator in activation.operators
        if operator.module is not None
    }
    assert {*models.RECORDS, "ACTIVATIONS", *named} == {*models.__all__}


@pytest.mark.parametrize("statement", ["import gatewave", "import gatewave.models"])
def test_importing_the_package_imports_no_framework(statement):
    assert not imported(statement) & {
        "torch",
        "onnx",
        "onnxruntime",
        "numpy",
        "fastapi",
        "pydantic",
    }


def test_records_need_neither_torch_nor_sympy():
    assert not imported("import gatewave; gatewave.ACTIVATIONS") & {
        "torch",
        "sympy",
        "mpmath",
        "numpy",
        "onnx",
    }


def test_work_on_graphs_needs_no_torch():
    names = imported("import gatewave.graphs.rewrite.fuse")  # onnx_ir imports SymPy
    assert not names & {"torch", "gatewave.export", "gatewave.models.symbols"}


def test_serving_imports_nothing_that_only_export_needs():
    names = imported("import gatewave; gatewave.create_app; import gatewave.cli.main")
    assert not names & {"torch", "onnx", "onnx_ir", "onnxscript", "sympy", "matplotlib"}
    assert not any(name.startswith(("gatewave.models", "gatewave.export")) for name in names)


def test_telemetry_of_onnx_runtime_is_off():
    code = "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None); import gatewave.service; "
    assert python(code + "print(os.environ['ORT_DISABLE_TELEMETRY'])") == "1\n"


def test_the_version_is_the_distribution_s():
    assert gatewave.__version__ == version("gatewave")


@pytest.mark.parametrize("arguments", [("--version",), ("serve", "--help")], ids=" ".join)
def test_the_module_is_the_command(arguments):
    one, other = (
        subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout
        for command in ([sys.executable, "-m", "gatewave"], GATEWAVE)
    )
    assert version("gatewave") in one or "Example" in one
    assert one.splitlines()[2:] == other.splitlines()[2:]


def imported(code):
    """Return the names of the modules that are loaded once ``code`` has run."""
    return set(python(f"{code}; import sys; print(*sys.modules)").split())


def python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
