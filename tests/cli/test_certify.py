"""Commands `gatewave certify` and `gatewave runtimes`, run as from a shell."""

import json
import re
from pathlib import Path

import onnx
import onnx.parser
import pytest

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph '
SILU = HEAD + "(float[N, 4] x) => (float[N, 4] y) { s = Sigmoid(x) y = Mul(x, s) }"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "silu.onnx"
    onnx.save(onnx.parser.parse_model(SILU), path)
    return path


def test_an_activation_is_certified_and_checked(run, tmp_path):
    what = ("sinc", "--runtimes", "reference", "--graph", "value", "--dtype", "float32")
    ended = run("certify", *what, "--output", tmp_path)
    assert ended.returncode == 0
    assert "the onnx reference evaluator  1 exact" in ended.stdout
    assert re.search(r"^evidence: sampled \([\d,]+ inputs\)$", ended.stdout, re.MULTILINE)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"sinc.certificate.{kind}" for kind in ("json", "md", "html")}
    path = tmp_path / "sinc.certificate.json"
    assert "the same again" in run("certify", "--check", path).stdout
    path.write_text(path.read_text().replace('"verdict":"exact"', '"verdict":"differs"'))
    path.write_text(path.read_text().replace('"verdict": "exact"', '"verdict": "differs"'))
    ended = run("certify", "--check", path)
    assert ended.returncode == 1
    assert "sinc value float32: was differs, is exact" in ended.stdout


def test_each_level_of_evidence_is_printed(run, tmp_path):
    what = ("sinc", "--runtimes", "reference", "--graph", "value,vjp", "--dtype", "float16,float32")
    lines = run("certify", *what, "--output", tmp_path).stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("evidence: "))
    exhaustive, sampled = line.removeprefix("evidence: ").split("; ")
    assert exhaustive == "exhaustive for sinc value float16 (65,536 inputs)"
    assert re.fullmatch(r"sampled otherwise \([\d,]+ to [\d,]+ inputs\)", sampled)


def test_a_certificate_of_an_older_version_is_checked(run):
    old = Path(__file__).parent.parent / "certificates" / "sinc.format2.certificate.json"
    ended = run("certify", "--check", old)
    assert ended.returncode == 0
    assert "the same results" in ended.stdout


def test_a_model_is_certified_and_checked(run, model, tmp_path):
    ended = run("certify", model, "--runtimes", "reference,onnxruntime", "-o", tmp_path, "--json")
    (document,) = json.loads(ended.stdout)
    assert document["kind"] == "model"
    assert [row["runtime"] for row in document["rows"]] == ["reference", "onnxruntime"]
    cells = [cell for row in document["rows"] for cell in row["cells"]]
    assert [(cell["subject"], cell["verdict"]) for cell in cells] == [("y", "exact")]
    assert any("NaN" in tried["name"] for tried in cells[0]["cases"])
    path = tmp_path / "silu.onnx.certificate.json"
    assert run("certify", "--check", path).returncode == 0
    onnx.save(onnx.parser.parse_model(SILU.replace("Mul(x, s)", "Mul(s, x)")), model)
    ended = run("certify", "--check", path, "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stdout)[0]["what"] == "the model silu.onnx"


def test_what_cannot_be_is_told(run, model, tmp_path):
    for arguments, says in (
        (("nonsense",), "'nonsense' is neither one of"),
        (("sinc", "--runtimes", "onnxruntim"), "did you mean onnxruntime"),
        (("sinc", "--dtype", "int8"), "--dtype: expected words of"),
        ((model, "--artifacts", tmp_path), "--artifacts: expected activations"),
        ((model, "--dtype", "float32"), "--dtype: is for activations"),
        ((model, "--graph", "value"), "--graph: is for activations"),
        ((model, model), "two models are called silu.onnx"),
        (("sinc", "--check", model), "--check: expected no other arguments"),
        (("--check", model), "is no certificate"),
        ((tmp_path / "none.onnx",), "cannot be read"),
    ):
        ended = run("certify", *arguments, "-o", tmp_path / "out")
        assert ended.returncode == 2, ended.stderr
        assert says in " ".join(ended.stderr.split())
        assert "Traceback" not in ended.stderr


def test_what_certifies_nothing_ends_with_1(run, model, tmp_path):
    for arguments in (
        ("sinc", "--runtimes", "onnxruntime", "--dtype", "bfloat16"),
        (model, "--runtimes", "numpy,torch"),
    ):
        ended = run("certify", *arguments, "-o", tmp_path)
        assert ended.returncode == 1
        assert "nothing was run" in ended.stderr


def test_what_is_to_be_exact_ends_with_1_where_it_is_not(run, model, tmp_path):
    options = ("-o", tmp_path, "--exact")
    assert run("certify", model, "--runtimes", "onnxruntime", *options).returncode == 0
    text = SILU.replace("s = Sigmoid(x) y = Mul(x, s)", "y = com.microsoft.QuickGelu(x)")
    text = text.replace("17]", '17, "com.microsoft" : 1]')
    onnx.save(onnx.parser.parse_model(text), model)
    assert run("certify", model, "--runtimes", "reference", *options).returncode == 1
    assert run("certify", model, "--runtimes", "reference", *options[:2]).returncode == 0


def test_runtimes_are_listed(run):
    assert "onnxruntime-1.20  ONNX Runtime 1.20.1" in run("runtimes", "list").stdout
    document = json.loads(run("runtimes", "list", "--json").stdout)
    known = {runtime["name"]: runtime for runtime in document["runtimes"]}
    assert known["reference"]["installed"]
    assert "float64" in known["onnxruntime"]["dtypes"]
    cuda = known["onnxruntime-cuda"]
    assert cuda["device"] == "cuda"
    assert cuda["possible"] or "needs an NVIDIA GPU" in run("runtimes", "list").stdout


def test_all_runtimes_are_those_that_this_machine_can_run(run, tmp_path):
    document = json.loads(run("runtimes", "list", "--json").stdout)
    possible = {found["name"] for found in document["runtimes"] if found["possible"]}
    what = ("sinc", "--runtimes", "all", "--graph", "value", "--dtype", "float32", "--json")
    (certificate,) = json.loads(run("certify", *what, "-o", tmp_path).stdout)
    assert {row["runtime"] for row in certificate["rows"]} == possible


def test_a_runtime_that_is_not_known_is_not_installed(run):
    ended = run("runtimes", "install", "openvin")
    assert ended.returncode == 2
    assert "there is no runtime 'openvin'" in " ".join(ended.stderr.split())
