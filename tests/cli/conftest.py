import sys
from dataclasses import dataclass

import pytest

from gatewave.cli import main as cli


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs `gatewave` in this process until it ends."""

    def command(*arguments, **variables):
        # One thread: ONNX Runtime's shared pool would forbid the other tests sessions of their own.
        for name, value in {"GATEWAVE_THREADS": "1", **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["gatewave", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(ended.value.code, *capsys.readouterr())

    return command
