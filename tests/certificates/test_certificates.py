"""Certificates of activations: correct cells are green, and defects are red at their place."""

import dataclasses
import json
import math
import shutil
from html import unescape
from pathlib import Path

import jsonschema_rs
import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from sharing import once

from gatewave.certificates import activations, certification, reproduction
from gatewave.certificates.certification import CertificationPlan
from gatewave.certificates.document import KEY, Certificate, model_digest, schema
from gatewave.certificates.report import pages
from gatewave.certificates.runtimes import catalogue
from gatewave.export.accuracy import reference
from gatewave.graphs.errors import ModelError
from gatewave.models import ACTIVATIONS

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
OLD = Path(__file__).parent / "sinc.format2.certificate.json"
"""Certificate of the value of sinc in float16 on onnx's evaluator, of format 2."""

HERE = [catalogue.find("reference"), catalogue.find("onnxruntime")]
SINC = ACTIVATIONS["sinc"]
SECONDS = 600.0
"""Limit on the start of a runtime and on each run: a busy machine takes minutes."""


def certificate(activation=SINC, graphs=("value",), dtypes=("float32",), runtimes=HERE):
    plan = CertificationPlan(runtimes, graphs, dtypes, seconds=SECONDS)
    return certification.of_activation(activation, plan)


def shared(factory, name, **plan):
    """Return a certificate that is made once in a test run, whichever worker asks for it first."""
    path = once(factory, name, lambda path: path.write_text(certificate(**plan).to_json()))
    return Certificate.model_validate_json(path.read_bytes())


@pytest.fixture(scope="session")
def sinc(tmp_path_factory):
    dtypes = ("float32", "float64", "bfloat16")
    return shared(tmp_path_factory, "sinc-certificate", graphs=("value", "grad"), dtypes=dtypes)


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """Certificate of the value of sinc in float32."""
    return shared(tmp_path_factory, "plain-certificate")


def broken(**change):
    first, *rest = SINC.operators
    return dataclasses.replace(SINC, operators=(dataclasses.replace(first, **change), *rest))


def sinc_with_float32_pi(op, x):
    zero = op.Less(op.Abs(x), 1e-300)
    angle = op.Mul(op.Where(zero, 1.0, x), float(np.float32(np.pi)))
    return op.Where(zero, 1.0, op.Div(op.Sin(angle), angle))


def naive_sinc(op, x):
    angle = op.Mul(x, np.pi)
    return op.Where(op.Less(op.Abs(angle), 1e-300), 1.0, op.Div(op.Sin(angle), angle))


def test_what_is_right_everywhere_is_exact_in_every_cell(sinc):
    assert sinc.holds
    assert [(row.runtime, len(row.cells)) for row in sinc.rows] == [
        ("reference", 6),
        ("onnxruntime", 4),  # it has no bfloat16
    ]
    for row, cell in sinc.cells():
        assert row.versions
        assert cell.verdict == "exact", cell.why
        assert 0 < cell.used <= 1
        assert cell.elements > 700
        assert [shaped.shape for shaped in cell.shapes] == [(), (0,), (3, 1, 5)]


def test_each_cell_has_its_level_of_evidence(sinc):
    for _, cell in sinc.cells():
        if cell.dtype == "bfloat16":
            assert (cell.evidence.level, cell.evidence.inputs) == ("exhaustive", 2**16)
        else:
            assert (cell.evidence.level, cell.evidence.inputs) == ("sampled", cell.elements)
    words = "- compared in grad bfloat16: exhaustive: 65,536 inputs, every value of bfloat16"
    assert words in pages.markdown(sinc)


def test_comparison_is_exhaustive_with_every_value_only():
    (every,) = reference.samples(SINC, "value", "float16")
    assert reference.evidence([every]).level == "exhaustive"
    assert reference.evidence([every[every != 1.5]]).level == "sampled"
    pairs = reference.samples(ACTIVATIONS["swiglu"], "value", "float16")
    assert reference.evidence(pairs).level == "sampled"
    assert "65,536 and 65,536 different values of float16" in reference.evidence(pairs).drawn


def test_special_values_are_told_one_by_one(sinc):
    (cell, *_) = (cell for _, cell in sinc.cells() if cell.dtype == "float32")
    told = [special.value for special in cell.special]
    assert {math.inf, -math.inf, 0.0, 1.0, float(torch.finfo(torch.float32).max)} <= {*told}
    assert float(np.float32(1e-45)) in told
    assert any(math.isnan(value) for value in told)
    assert [math.copysign(1, value) for value in told if value == 0] == [1, -1]


def test_a_rounded_pi_turns_float64_red_and_float32_not():
    found = certificate(broken(value=sinc_with_float32_pi), dtypes=("float64",), runtimes=HERE[:1])
    ((_, cell),) = found.cells()
    assert cell.verdict == "differs"
    assert cell.worst.output == "y"
    assert cell.worst.got != cell.worst.due
    assert not found.holds


def test_a_naive_sinc_is_red_at_whole_numbers():
    found = certificate(broken(value=naive_sinc), dtypes=("float64",), runtimes=HERE[:1])
    ((_, cell),) = found.cells()
    assert cell.verdict == "differs"
    wrong = {special.value for special in cell.special if not special.holds}
    assert {1.0, -1.0, 1e4} <= wrong
    assert not {0.0, 0.5} & wrong
    assert "wrong at 1.0, -1.0" in pages.markdown(found)


def test_a_runtime_that_is_not_there_is_a_row_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAVE_RUNTIMES", str(tmp_path))
    found = certificate(runtimes=[catalogue.find("onnxruntime-1.20"), HERE[0]])
    assert "gatewave runtimes install onnxruntime-1.20" in found.rows[0].why
    assert found.rows[1].cells[0].verdict == "exact"


def test_the_document_keeps_to_its_schema_and_comes_back_as_it_was(sinc):
    text = sinc.to_json()
    jsonschema_rs.validate(schema(), json.loads(text))
    again = Certificate.model_validate_json(text)
    assert again.to_json() == text
    assert again.digest() == sinc.digest()


@pytest.mark.parametrize(("name", "graph"), [("swiglu", "vjp"), ("geglu", "grad")])
def test_numpy_and_torch_compute_derivatives_of_records(name, graph):
    found = certificate(
        ACTIVATIONS[name],
        (graph,),
        ("bfloat16", "float64"),
        [catalogue.find("numpy"), catalogue.find("torch")],
    )
    assert [len(row.cells) for row in found.rows] == [4, 4]
    assert found.holds


def test_a_models_digest_leaves_out_what_it_says_of_certificates():
    (subject,) = activations.subjects(SINC, ["value"], ["float32"])
    content = activations.models(subject)["sinc.value.float32.onnx"]
    model = onnx.ModelProto.FromString(content)
    before = model_digest(content)
    model.metadata_props.add(key=KEY, value="0" * 64)
    assert model_digest(model.SerializeToString()) == before
    model.metadata_props.add(key="another", value="word")
    assert model_digest(model.SerializeToString()) != before


def test_the_pages_show_every_runtime_and_load_nothing(sinc):
    page = pages.markdown(sinc)
    assert "| the onnx reference evaluator | ✓" in page
    assert sinc.digest() in page
    html = pages.html(sinc)
    assert "<table>" in html
    assert "http" not in html.replace("http-equiv", "")


def test_the_pages_say_what_is_allowed_where_something_was_compared(sinc):
    assert "- allowed in value float32: y: 4 ULP" in pages.markdown(sinc)
    cell = sinc.rows[0].cells[0].model_copy(update={"verdict": "refused", "allowed": ""})
    row = sinc.rows[0].model_copy(update={"cells": (cell,)})
    assert "allowed in" not in pages.markdown(sinc.model_copy(update={"rows": (row,)}))


ALTERED = {
    "elements": 1,
    "wrong": 7,
    "form": "decomposed",
    "changes": ["nothing"],
    "model": "0" * 64,
    "allowed": "anything",
    "shapes": [],
    "used": 0.5,
    "ulp": 0.25,
}
"""Fields of a cell, with other values."""


def test_each_alteration_of_a_certificate_is_reported_and_no_other(tmp_path, plain):
    """The document is of format 2, whose cells have no evidence."""
    document = json.loads(plain.to_json())
    document["format"] = 2
    evaluator, runtime = document["rows"]
    for row in (evaluator, runtime):
        del row["cells"][0]["evidence"]
    evaluator["cells"][0].update(ALTERED)
    evaluator["versions"]["onnx"] = "1.0"
    runtime["cells"][0]["verdict"] = "differs"
    document["models"]["sinc.value.float32.onnx"] = "0" * 64
    path = tmp_path / "sinc.certificate.json"
    path.write_text(json.dumps(document))
    changes = {change.what: change for change in reproduction.check(path, SECONDS)}
    title = evaluator["title"]
    fields = {f"{title}: sinc value float32: {name}": name for name in ALTERED}
    verdict = f"{runtime['title']}: sinc value float32"
    model, versions = "the model sinc.value.float32.onnx", f"{title}: versions"
    assert {*changes} == {*fields, verdict, model, versions}
    for what, name in fields.items():
        assert changes[what].matters == (name not in {"wrong", "used", "ulp"})
    assert (changes[verdict].before, changes[verdict].after) == ("differs", "exact")
    assert changes[verdict].matters
    assert changes[model].matters
    assert not changes[versions].matters


def test_a_certificate_of_an_older_version_is_reproduced(tmp_path):
    """Its baseline is described in other words, which are no result."""
    path = tmp_path / "sinc.certificate.json"
    shutil.copy(OLD, path)
    old = reproduction.read(path)
    assert (old.format, old.truth) != (3, certification.OF_FORMULA)
    assert path.read_text() == old.to_json()
    changes = {change.what: change.matters for change in reproduction.check(path, SECONDS)}
    assert changes["the baseline: words"] is False
    assert not any(changes.values()), changes


@pytest.mark.parametrize(
    ("name", "value"),
    [("level", "agreed"), ("by", ["onnx"]), ("nodes", 3), ("checked", 2), ("unchecked", {"n": ""})],
)
def test_another_support_of_the_baseline_matters(tmp_path, plain, monkeypatch, name, value):
    document = json.loads(plain.to_json())
    document["baseline"][name] = value
    path = tmp_path / "sinc.certificate.json"
    path.write_text(json.dumps(document))
    monkeypatch.setattr(certification, "of_activation", lambda *_: plain)
    changes = {change.what: change.matters for change in reproduction.check(path, SECONDS)}
    assert changes == {f"the baseline: {name}": True}


def test_parts_that_were_cut_off_a_certificate_are_reported(tmp_path, plain):
    document = json.loads(plain.to_json())
    evaluator, runtime = document["rows"]
    runtime["cells"].pop()
    document["models"].popitem()
    evaluator["cells"][0]["special"][0]["holds"] = False
    evaluator["cells"][0]["evidence"]["level"] = "exhaustive"
    path = tmp_path / "sinc.certificate.json"
    path.write_text(json.dumps(document))
    changes = reproduction.check(path, SECONDS)
    assert all(change.matters for change in changes)
    whats = " ".join(change.what for change in changes)
    cell = "sinc value float32"
    for words in (f"{cell}: special", f"{cell}: evidence", "the model sinc.value.float32"):
        assert words in whats
    assert f"{runtime['title']}: {cell}" in {change.what for change in changes}
    for row in document["rows"]:
        row["cells"] = []
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match="has no results"):
        reproduction.check(path, SECONDS)


def test_other_weights_are_another_model(tmp_path):
    path = tmp_path / "model.onnx"
    weight = np.arange(512, dtype=np.float32)
    text = f"{HEAD}(float[n, 512] x) => (float[n, 512] y) <float[512] w> {{ y = Mul(x, w) }}"
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    made = certification.of_model(path, CertificationPlan(runtimes=HERE[1:], seconds=SECONDS))
    assert {*made.models} == {"model.onnx", "w.bin"}
    written = tmp_path / "model.onnx.certificate.json"
    written.write_text(made.to_json())
    assert reproduction.check(written, SECONDS) == []
    (tmp_path / "w.bin").write_bytes((weight + 1).tobytes())
    changes = {change.what: change for change in reproduction.check(written, SECONDS)}
    assert changes["the model w.bin"].matters


def test_data_of_one_name_in_two_folders_are_two_files(tmp_path):
    path = tmp_path / "model.onnx"
    text = f"{HEAD}(float[n, 8] x) => (float[n, 8] y) <float[8] v, float[8] w>"
    model = onnx.parser.parse_model(text + "{ z = Mul(x, v) y = Add(z, w) }")
    for name in ("v", "w"):
        (tmp_path / name).mkdir()
        array = np.arange(8, dtype=np.float32)
        (tmp_path / name / "data.bin").write_bytes(array.tobytes())
        tensor = model.graph.initializer.add(name=name, dims=[8], data_type=onnx.TensorProto.FLOAT)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=f"{name}/data.bin")
    onnx.save(model, path)
    made = certification.of_model(path, CertificationPlan(runtimes=HERE[1:], seconds=SECONDS))
    assert {*made.models} == {"model.onnx", "v/data.bin", "w/data.bin"}


NAMES = ["<script>alert(1)</script>", "a|b\n# Owned\n<img src=x onerror=alert(1)>", "`*_[a](b)&lt;"]


def test_names_are_escaped_in_pages(tmp_path):
    path = tmp_path / "model.onnx"
    text = "(float[n] x) => (float[n] y0, float[n] y1, float[n] y2) "
    model = onnx.parser.parse_model(HEAD + text + "{ y0 = Neg(x) y1 = Neg(x) y2 = Neg(x) }")
    for output, node, name in zip(model.graph.output, model.graph.node, NAMES, strict=True):
        output.name = node.output[0] = name
    onnx.save(model, path)
    made = certification.of_model(path, CertificationPlan(runtimes=HERE[1:], seconds=SECONDS))
    for name in NAMES:
        html = pages.html(made.model_copy(update={"name": name}))
        assert "<script" not in html
        assert "<img" not in html
        assert "<a " not in html
        assert html.count("<h1>") == 1
        shown = " ".join(unescape(html).split())
        assert shown.count(" ".join(name.split())) >= 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the document: Invalid JSON"),
        ("[]", "the document"),
        ('{"format": 1}', "format: Input should be 2 or 3"),
        ('{"format": 2}', "name: Field required"),
    ],
)
def test_what_is_no_certificate_is_told(tmp_path, text, says):
    path = tmp_path / "x.certificate.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=says):
        reproduction.check(path, SECONDS)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        reproduction.check(tmp_path / "none", SECONDS)
