"""Command `gatewave` as users run it: results, exit status, and errors of one line."""

import csv
import hashlib
import json
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from gatewave.cli import main as cli
from gatewave.graphs.errors import ModelError, NotWrittenError, TargetError, VerificationError

MODULE = '''
"""A user's own activations."""
import torch
from torch import nn


class Mish(nn.Module):
    """x times tanh of softplus."""

    formula = "x*tanh(log(1 + exp(x)))"

    def forward(self, x):
        return x * torch.tanh(nn.functional.softplus(x))


class Sigmoid(nn.Module):
    def forward(self, x):
        return torch.sigmoid(x)


class Wrong(nn.Module):
    """Says that it is its formula, and is not."""

    formula = "x*tanh(x)"

    def forward(self, x):
        return x * torch.sin(x)
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "acts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acts", raising=False)
    monkeypatch.chdir(tmp_path)


def said(ended):
    """Return the error of a failed command: one line, without a traceback."""
    assert "Traceback" not in ended.stderr
    assert ended.stderr.strip().startswith("error: ")
    return " ".join(ended.stderr.split())


@pytest.mark.parametrize("command", ["serve", "export", "eval", "plot", "doctor", "verify"])
def test_help_shows_an_example(run, command):
    ended = run(command, "--help")
    assert ended.returncode == 0
    assert "Example" in ended.stdout


def test_export_writes_what_is_asked_for_and_reports_the_errors(run, tmp_path):
    folder = tmp_path / "new" / "artifacts"
    options = ["--dtype", "float32", "--graph", "value", "--form", "decomposed", "--json"]
    ended = run("export", "sinc", "swish", "-o", folder, *options)
    assert ended.returncode == 0, ended.stderr
    report = {entry["path"]: entry for entry in json.loads(ended.stdout)}
    path = str(folder / "sinc.value.float32.decomposed.onnx")
    assert 0 < report[path]["errors"]["y"]["share_of_tolerance"] <= 1
    onnx.checker.check_model(onnx.load(path), full_check=True)
    names = {"sinc.value.float32.decomposed.onnx", "swish.value.float32.decomposed.onnx"}
    assert {p.name for p in folder.glob("*.onnx")} == names


@pytest.mark.parametrize(("rank", "shape"), [("0", ()), ("3", (2, 1, 3)), ("any", (2, 2))])
def test_export_declares_the_rank_that_is_asked_for(run, tmp_path, rank, shape):
    options = ["--dtype", "float32", "--graph", "value", "--form", "function"]
    assert run("export", "sinc", "-o", tmp_path, "--rank", rank, *options).returncode == 0
    session = ort.InferenceSession(tmp_path / "sinc.value.float32.onnx")
    (y,) = session.run(None, {"x": np.full(shape, 0.5, np.float32)})
    assert y.shape == shape


@pytest.mark.usefixtures("package")
def test_an_export_is_certified_and_its_models_name_the_certificate(run, tmp_path):
    options = ["-o", tmp_path, "--certify", "--graph", "value", "--dtype", "float16,float64"]
    assert run("export", "sinc", "acts:Mish", *options).returncode == 0
    for name in ("sinc", "mish"):
        content = (tmp_path / f"{name}.certificate.json").read_bytes()
        rows = json.loads(content)["rows"]
        assert [row["runtime"] for row in rows] == ["reference", "onnxruntime"]
        cells = [cell for row in rows for cell in row["cells"]]
        assert [cell["verdict"] for cell in cells] == ["exact"] * 4
        models = sorted(tmp_path.glob(f"{name}.*.onnx"))
        assert len(models) == 4
        for path in models:
            entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
            assert entries["ai.gatewave.certificate"] == hashlib.sha256(content).hexdigest()


@pytest.mark.usefixtures("package")
def test_a_users_own_module_is_exported_and_served_like_ours(run, tmp_path):
    ended = run("export", "acts:Mish", "-o", tmp_path, "--dtype", "float32")
    assert ended.returncode == 0, ended.stderr
    np.save("x.npy", np.array([-1.0, 0.5, 2.0], np.float32))
    ended = run("eval", "mish", "x.npy", "-o", "y.npy", "--artifacts", tmp_path)
    assert ended.returncode == 0, ended.stderr
    x = np.load("x.npy").astype(np.float64)
    np.testing.assert_allclose(np.load("y.npy"), x * np.tanh(np.log1p(np.exp(x))), rtol=1e-6)


@pytest.mark.usefixtures("package")
def test_an_export_that_misses_its_tolerance_writes_nothing_and_ends_with_1(run, tmp_path):
    folder = tmp_path / "none"
    ended = run("export", "acts:Wrong", "-o", folder, "--dtype", "float64")
    assert ended.returncode == 1
    assert "the record allows" in said(ended)
    assert not folder.exists()
    assert not list(tmp_path.glob(".none*"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("gelu", "neither one of sinc, swiglu"),
        ("acts:Gelu", "has no attribute"),
        ("nowhere:Gelu", "No module named"),
        ("acts:nn", "neither an nn.Module, an Activation, an ExportedProgram, nor a function"),
        ("acts:Sigmoid", "taken"),
    ],
)
@pytest.mark.usefixtures("package")
def test_a_target_that_cannot_be_exported_is_said_and_ends_with_2(run, target, words):
    ended = run("export", target)
    assert ended.returncode == 2
    assert words in said(ended)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dtype", "float8"], "--dtype: expected words of float16"),
        (["--graph", "value,jvp"], "got 'jvp'"),
        (["--rank", "-1"], "--rank: expected a whole number"),
        (["--rank", "2", "--certify"], "--certify: certificates are of both forms"),
        (["--form", "function", "--certify"], "--certify: certificates are of both forms"),
    ],
)
def test_an_option_that_is_wrong_is_said_and_ends_with_2(run, options, words):
    ended = run("export", "sinc", *options)
    assert ended.returncode == 2
    assert words in said(ended)


def test_eval_reads_and_writes_csv(run, artifacts, tmp_path):
    source, output = tmp_path / "gates.csv", tmp_path / "out.csv"
    source.write_text("a,b\n0.5,1\n-1,-1\n2,0\n")
    options = ["-p", "gate=linear", "-p", "alpha=1.5", "--outputs", "y,dy_da", "--dtype", "float64"]
    ended = run("eval", "swiglu", source, "-o", output, *options, "--artifacts", artifacts)
    assert ended.returncode == 0, ended.stderr
    rows = list(csv.DictReader(output.read_text().splitlines()))
    a, b, y = (np.array([float(row[name]) for row in rows]) for name in ("a", "b", "y"))
    np.testing.assert_allclose(y, a / (1 + np.exp(-1.5 * a)) * b, rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gelu", "x.npy"], "activation: expected one of"),
        (["sinc", "x.npy", "--outputs", "z"], "outputs[0]"),
        (["sinc", "x.npy", "-p", "alpha=2"], "params.alpha"),
        (["sinc", "x.npy", "-p", "alpha"], "expected NAME=VALUE"),
        (["sinc", "none.npy"], "none.npy"),
        (["swiglu", "x.npy"], "x.npy"),
    ],
)
def test_an_evaluation_that_cannot_be_done_is_said_and_ends_with_2(
    run, artifacts, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones(3, np.float32))
    ended = run("eval", *arguments, "-o", "y.npy", "--artifacts", artifacts)
    assert ended.returncode == 2, ended.stderr
    assert words in said(ended)
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plot_draws_a_picture(run, tmp_path, suffix, start):
    output = tmp_path / f"x.{suffix}"
    ended = run("plot", "swiglu", "-p", "gate=linear", "--range", "-2", "2", "-o", output)
    assert ended.returncode == 0, ended.stderr
    assert output.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sinc", "-o", "x.gif"], ".svg or .png"),
        (["sinc", "-p", "gate=linear"], "--param gate"),
        (["swiglu", "-p", "gate=relu"], "expected one of sigmoid, linear"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_said_and_ends_with_2(run, arguments, words):
    ended = run("plot", *arguments)
    assert ended.returncode == 2
    assert words in said(ended)


def test_doctor_finds_everything_well(run, artifacts):
    ended = run("doctor", "--json", "--artifacts", artifacts)
    findings = {f["subject"]: f for f in json.loads(ended.stdout)}
    assert ended.returncode == 0
    assert not [f for f in findings.values() if f["verdict"] == "wrong"]
    assert {"python", "onnxruntime", "providers", "cuda", "device", "artifacts"} <= findings.keys()
    assert findings["artifacts"]["detail"].startswith("120 of 120")


def test_doctor_names_the_artifact_that_is_broken_and_ends_with_1(run, artifacts, tmp_path):
    whole = (artifacts / "sinc.value.float32.onnx").read_bytes()
    (tmp_path / "sinc.value.float32.onnx").write_bytes(whole)
    (tmp_path / "sinc.value.float64.onnx").write_bytes(whole[:300])
    ended = run("doctor", "--json", "--artifacts", tmp_path)
    assert ended.returncode == 1
    wrong = [f["subject"] for f in json.loads(ended.stdout) if f["verdict"] == "wrong"]
    assert wrong == ["sinc.value.float64.onnx", "artifacts"]


def test_doctor_says_that_there_are_no_artifacts_and_ends_with_1(run, tmp_path):
    ended = run("doctor", "--artifacts", tmp_path)
    assert ended.returncode == 1
    assert "gatewave export" in ended.stdout


def test_doctor_says_that_two_runtimes_are_installed(run, artifacts, tmp_path, monkeypatch):
    information = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    ended = run("doctor", "--json", "--artifacts", artifacts)
    assert ended.returncode == 1
    findings = {f["subject"]: f for f in json.loads(ended.stdout)}
    assert findings["onnxruntime"]["verdict"] == "wrong"
    assert "uninstall" in findings["onnxruntime"]["detail"]


def test_doctor_says_that_the_wanted_device_is_not_there(run, artifacts):
    ended = run("doctor", "--json", "--artifacts", artifacts, GATEWAVE_DEVICE="cuda")
    assert ended.returncode == 1
    findings = {f["subject"]: f for f in json.loads(ended.stdout)}
    assert findings["device"]["verdict"] == "wrong"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelError("m.onnx: not a model"), 2),
        (TargetError("no target is called abacus"), 2),
        (VerificationError("y differs by 3 ULP"), 1),
        (NotWrittenError("out.onnx: no space left"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_of_a_rewrite_has_its_exit_status(run, monkeypatch, error, status):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    ended = run()
    assert ended.returncode == status
    assert str(error) in said(ended)


def test_an_error_of_no_known_kind_is_not_hidden(monkeypatch):
    def fail():
        raise KeyError("a defect")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(KeyError, match="a defect"):
        cli.main()
