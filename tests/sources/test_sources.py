"""Activations written in JAX and Keras: recognised, fused, verified and certified.

The models were exported by the scripts beside them, in environments that the lists define.
`make test-matrix` exports them again.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from environments import python_of_source

from gatewave.certificates import certification
from gatewave.certificates.certification import CertificationPlan
from gatewave.certificates.report.portability import text
from gatewave.certificates.runtimes import catalogue
from gatewave.graphs.recognition.sites import survey
from gatewave.graphs.rewrite.fuse import fuse
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.targets import find
from gatewave.graphs.verify import comparison
from gatewave.graphs.verify.verifier import verify
from gatewave.models import ACTIVATIONS

FOLDER = Path(__file__).parent
SOURCES = {"jax2onnx": "jax_model.py", "tf2onnx": "keras_model.py"}

KINDS = {"geglu-none": "geglu"}
"""Kinds of outputs that have another name."""

OURS = {
    "sinc": "Sinc",
    "swish": "Swish",
    "glu": "GLU",
    "reglu": "ReGLU",
    "geglu-none": "GeGLU",
    "geglu-tanh": "GeGLUTanh",
    "swiglu-linear": "SwiGLULinear",
    "swiglu-sigmoid": "SwiGLUSigmoid",
}
"""Our operators by output; ONNX has operators for the others, and `fuse` leaves them unchanged."""

NOT_OURS = {"sigmoid", "gelu", "mish", "hardswish"}


@pytest.fixture(scope="module", params=SOURCES)
def source(request):
    return FOLDER / f"{request.param}.onnx"


@pytest.fixture(scope="module")
def fused(source, tmp_path_factory):
    model = ir.load(source)
    fuse(model)
    path = tmp_path_factory.mktemp("fused") / source.name
    ir.save(model, path)
    return path


def kinds(model):
    """Return the kind of activation that computes each output."""
    return {site.output.name: site.kind for site in survey(model).sites}


def test_every_activation_is_recognised(source):
    model = ir.load(source)
    outputs = {value.name for value in model.graph.outputs}
    assert outputs == {*OURS, *NOT_OURS}
    found = survey(model)
    assert {site.output.name: site.kind for site in found.sites} == {
        name: KINDS.get(name, name) for name in outputs
    }
    assert [miss.reason for miss in found.near_misses] == []


def test_each_becomes_our_operator(fused):
    model = ir.load(fused)
    made = {v.name: v.producer() for v in model.graph.outputs if v.name in OURS}
    assert {name: (node.domain, node.op_type) for name, node in made.items()} == {
        name: ("ai.gatewave", op_type) for name, op_type in OURS.items()
    }


def test_fused_it_is_the_same(source, fused):
    report = verify(source, fused, comparison.VerificationPlan())
    assert report.holds
    assert {one.name for one in report.outputs} == {*OURS, *NOT_OURS}


@pytest.fixture(scope="module")
def certificate(fused):
    runtimes = [catalogue.find(name) for name in ("reference", "onnxruntime")]
    return certification.of_model(fused, CertificationPlan(runtimes=runtimes))


def test_it_is_certified(certificate):
    assert certificate.holds
    for row in certificate.rows[1:]:
        assert {cell.subject for cell in row.cells} == {*OURS, *NOT_OURS}
        assert all(cell.elements > 0 for cell in row.cells)


def test_the_page_has_it_and_says_what_is_wrong(source, certificate):
    plan = CertificationPlan(
        runtimes=[catalogue.find("numpy")], graphs=["value"], dtypes=["float32"]
    )
    activation = certification.of_activation(ACTIVATIONS["sinc"], plan)
    page = text([activation, certificate])
    (section,) = re.findall(rf"### {source.stem}\n\n(.*?)\n\n## ", page, re.DOTALL)
    lines = section.splitlines()
    assert lines[0].count("|") == len({*OURS, *NOT_OURS}) + 2
    assert [line.count("✓") for line in lines[2:]] == [12]
    due, first = certificate.rows
    assert due.cells == ()
    wrong = first.cells[0].model_copy(update={"verdict": "differs", "why": "sinc is not sinc"})
    row = first.model_copy(update={"cells": (wrong, *first.cells[1:])})
    changed = certificate.model_copy(update={"rows": (due, row)})
    page = text([activation, changed])
    assert "- ONNX Runtime, as installed: sinc is not sinc" in page
    assert "Other sources" not in text([activation])


def test_the_exact_gelu_of_tensorflow_runs_where_it_is_lowered():
    # tf2onnx writes Erfc, which is no operator of ONNX.
    path = FOLDER / "tf2onnx.onnx"
    model = ir.load(path)
    assert "Erfc" in {node.op_type for node in model.graph}
    with pytest.raises(onnx.checker.ValidationError, match="No Op registered for Erfc"):
        onnx.checker.check_model(onnx.load(path))
    lower(model, find("onnxruntime-1.20-cpu"))
    assert "Erfc" not in {node.op_type for node in model.graph}


@pytest.mark.matrix
@pytest.mark.parametrize("name", SOURCES)
def test_what_is_exported_anew_is_the_same(name, tmp_path):
    path = tmp_path / "model.onnx"
    command = [python_of_source(name), FOLDER / SOURCES[name], path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    new, old = ir.load(path), ir.load(FOLDER / f"{name}.onnx")
    assert Counter(n.op_type for n in new.graph) == Counter(n.op_type for n in old.graph)
    assert kinds(new) == kinds(old)
