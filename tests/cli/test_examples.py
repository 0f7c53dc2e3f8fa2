"""Examples in the help of each command: they run as they stand, in a folder with their files."""

import json
import re
import shlex
import signal
import subprocess
import sys

import fake_runtimes
import numpy as np
import onnx
import onnx.parser
import pytest
import typer
from processes import GATEWAVE, environment, parsed

from gatewave.certificates.runtimes import environments
from gatewave.cli import main as cli

MODEL = """<ir_version: 8, opset_import: ["": 17]> g (float[n, 4] x) => (float[n, 4] y) {
    h = Relu(x)
    s = Sigmoid(h)
    y = Mul(h, s)
}"""

ACTIVATIONS = '''
import torch

class Mish(torch.nn.Module):
    """x times tanh of softplus."""

    def forward(self, x):
        return x * torch.tanh(torch.nn.functional.softplus(x))
'''


def commands(group, path=()):
    """Yield the words of each command, those of groups included."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = [*commands(typer.main.get_command(cli.app))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the files that examples name."""
    model = onnx.parser.parse_model(MODEL)
    for node in model.graph.node:
        node.name = f"layer.0.{node.op_type}"
    onnx.save(model, tmp_path / "model.onnx")
    onnx.save(model, tmp_path / "fused.onnx")
    numbers = np.linspace(-2, 2, 8, dtype=np.float32)
    np.savez(tmp_path / "real.npz", x=numbers.reshape(2, 4))
    np.savez(tmp_path / "gates.npz", a=numbers, b=numbers)
    np.save(tmp_path / "x.npy", numbers)
    (tmp_path / "acts.py").write_text(ACTIVATIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acts", raising=False)
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "runtimes"))
    return tmp_path


def examples(shown):
    """Return the arguments of the examples in a help text."""
    _, _, rest = shown.partition("Examples:")
    return [shlex.split(line)[1:] for line in re.findall(r"(?m)^ +(gatewave .*?) *$", rest)]


def install(folder, name):
    """Make the environment of a runtime look installed, as far as the command checks it."""
    home = folder / "runtimes" / name
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(sys.executable)
    fake_runtimes.mark_installed(home, name)


def status_of_service(arguments, folder):
    """Return the exit status of a service that is stopped when it is ready."""
    with subprocess.Popen(
        [*GATEWAVE, *arguments],
        cwd=folder,
        env=environment(),
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert any(parsed(line)["message"] == "ready" for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_example_runs_as_it_stands(run, folder, request, command):
    found = examples(run(*command, "--help", COLUMNS="200").stdout)
    assert found, "the help has no example"
    if command[0] in {"eval", "doctor", "serve"}:
        (folder / "artifacts").symlink_to(request.getfixturevalue("artifacts"))
    if command == ("runtimes", "install"):
        install(folder, "openvino")
    for arguments in found:
        assert tuple(arguments[: len(command)]) == command
        if command == ("serve",):
            assert status_of_service(arguments, folder) == 0
            continue
        ended = run(*arguments)
        assert ended.returncode == 0, ended.stderr
        if "--json" in arguments:
            assert json.loads(ended.stdout)
        if "-o" in arguments:
            assert (folder / arguments[arguments.index("-o") + 1]).exists()
