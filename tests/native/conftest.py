"""Fixtures of the native tests: the kernels, built from their sources for each instruction set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest
from native import build
from native_models import INSTRUCTIONS, model, options
from onnx import TensorProto, helper
from sharing import alone

from gatewave.export.accuracy.certify import Kernels
from gatewave.graphs.ops.signature import DOMAIN, GRAPHS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def built():
    """Return a function that builds a target of ``native/`` and returns the build folder.

    The folder is the one that `make test` and `make native` build in. All targets link the objects
    of the kernels that are there, because compiling them takes most of a build: half a minute.
    """

    def build_target(target):
        try:
            tools = build.find_tools()
        except build.Skipped as reason:
            pytest.skip(str(reason))
        folder = ROOT / "build" / "gatewave-strict"
        with alone(folder.with_suffix(".lock")):
            build.build(build.CPU, folder, strict=True)
            if target != build.CPU:
                configure = [tools.cmake, "-S", build.NATIVE, "-B", folder, "-DGATEWAVE_TESTS=ON"]
                subprocess.run(configure, check=True)
                subprocess.run([tools.cmake, "--build", folder, "--target", target], check=True)
        return folder

    return build_target


@pytest.fixture(scope="session")
def library(built):
    """Return the shared library that `make native` installed in the service, or a new build."""
    installed = ROOT / "service" / "libgatewave.so"
    return installed if installed.exists() else built(build.CPU) / "libgatewave.so"


@pytest.fixture(scope="session")
def description(library):
    """Return the description that the library gives of itself."""
    node = helper.make_node("Kernels", [], ["text"], domain=DOMAIN)
    port = helper.make_tensor_value_info("text", TensorProto.UINT8, ["n"])
    session = ort.InferenceSession(model([node], [], [port]), options(library))
    return json.loads(bytes(session.run(None, {})[0]))


@pytest.fixture(params=INSTRUCTIONS)
def kernels(request, library, description):
    """Return the kernels for each instruction set of this processor."""
    if request.param not in description["supported"]:
        pytest.skip(f"this processor has no {request.param}")
    return Kernels(library, request.param)


@pytest.fixture
def subprocess_python():
    """Return a function that runs a script with arguments in a Python process."""

    def run(script, *arguments, **variables):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **variables},
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run


@pytest.fixture(params=GRAPHS)
def graph(request):
    return request.param
