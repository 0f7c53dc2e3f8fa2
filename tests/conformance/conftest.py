import json
import subprocess
from pathlib import Path

import onnx
import pytest
from onnx import helper
from onnx_models import model, port
from processes import serving

from gatewave.service.codecs.datatypes import DATATYPES
from gatewave.service.security.keys import new_key

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"
"""Environment of the clients; their modules and ours define the same messages."""


@pytest.fixture(scope="session")
def client():
    """Return a function that runs a script of the folder ``clients``, and returns its output."""
    if not PYTHON.exists():
        pytest.fail("the clients are not installed: make .venv-clients/.made")

    def run(script, *arguments, given):
        ended = subprocess.run(
            [PYTHON, HERE / "clients" / f"{script}.py", *arguments],
            input=given,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr.decode()[-2000:]
        return json.loads(ended.stdout)

    return run


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """Repository with a model ``identity_…`` of each datatype, for tensors of any shape."""
    folder = tmp_path_factory.mktemp("repository")
    for name, datatype in DATATYPES.items():
        version = folder / f"identity_{name}" / "1"
        version.mkdir(parents=True)
        node = helper.make_node("Identity", ["x"], ["y"])
        ports = [port(which, None, datatype.onnx) for which in "xy"]
        onnx.save(model([node], ports[:1], ports[1:]), version / "model.onnx")
    return folder


@pytest.fixture(scope="session")
def target(artifacts, repository):
    """Return a running server in the format of the clients' scripts."""
    key, line = new_key("admin")
    settings = {
        "GATEWAVE_GRPC_PORT": "0",
        "GATEWAVE_REPOSITORY": str(repository),
        "GATEWAVE_REPOSITORY_MODE": "explicit",
        "GATEWAVE_KEYS": line,
    }
    with serving(artifacts, **settings) as server:
        (grpc,) = (
            entry["message"].split()[-1]
            for entry in server.log()
            if entry["message"].startswith("serving gRPC on ")
        )
        yield {
            "http": server.url.removeprefix("http://"),
            "grpc": grpc,
            "headers": {"authorization": f"Bearer {key}"},
        }
        assert server.stop() == 0
