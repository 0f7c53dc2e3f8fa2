"""Complete reasons and names in the output of commands, at any width of the terminal."""

import io
import json
import re

import onnx
import onnx.parser
import pytest
from rich.console import Console

from gatewave.cli import terminal
from gatewave.cli.files.errors import DamagedFileError, explained

LONG = "/".join(["a_very_long_name_of_a_layer"] * 8)
"""Name of a node, far longer than the 80 columns of a pipe."""

HEAD = '<ir_version: 8, opset_import: ["": 17, "org.example": 1]> g '
UNKNOWN = HEAD + "(float[N, 4] x) => (float[N, 4] y) { y = org.example.Nameless(x) }"
OPEN = HEAD + "(float[N, 4] x) => (float[N, 4] y, float[N, 4] s) { s = Sigmoid(x) y = Mul(x, s) }"
SWISH = HEAD.replace("17", "24") + "(float[N, 4] x) => (float[N, 4] y) { y = Swish(x) }"


@pytest.fixture
def saved(tmp_path):
    def save(text):
        model = onnx.parser.parse_model(text)
        for node in model.graph.node:
            node.name = LONG
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return save


def test_an_error_is_one_whole_line(run, saved):
    path = saved(UNKNOWN)
    ended = run("verify", path, path, COLUMNS="80")
    assert ended.returncode == 1
    assert "\n" not in ended.stderr.removesuffix("\n")
    assert "org.example" in ended.stderr


def test_why_a_runtime_is_not_run_is_whole(run, saved, tmp_path):
    folder = tmp_path / LONG
    what = ("certify", saved(OPEN), "--runtimes", "reference,openvino", "-o", tmp_path)
    shown = run(*what, COLUMNS="80", GATEWAVE_RUNTIMES=str(folder)).stdout
    path = tmp_path / "model.onnx.certificate.json"
    why = json.loads(path.read_text())["rows"][1]["why"]
    assert "openvino" in why
    assert why in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (SWISH, ("inspect", "--target", "onnxruntime-1.20")),
        (OPEN, ("inspect",)),
        (OPEN, ("fuse",)),
        (SWISH, ("lower", "--target", "onnxruntime-1.20", "--no-verify")),
    ],
)
def test_lines_and_tables_hold_whole_names(run, saved, tmp_path, text, command):
    path = saved(text)
    name, *options = command
    if name != "inspect":
        options += ["-o", tmp_path / "out.onnx"]
    ended = run(name, path, *options, COLUMNS="80")
    assert any(LONG in line for line in ended.stdout.splitlines()), ended
    assert "…" not in ended.stdout


def test_a_narrow_terminal_wraps_cells(monkeypatch):
    screen = io.StringIO()
    made = terminal.table("node", "reason", "state")
    made.add_row(LONG, "the reason " * 10, "refused")
    narrow = Console(file=screen, width=40, force_terminal=True)
    monkeypatch.setattr(terminal, "Console", lambda: narrow)
    terminal.show(made)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert "…" not in shown
    assert shown.count("reason") >= 10
    assert max(map(len, shown.splitlines())) <= 40


def test_a_damaged_file_gives_every_line_of_its_reason(tmp_path):
    with pytest.raises(DamagedFileError, match="first second"), explained(tmp_path, ValueError):
        raise ValueError("first\n second")
