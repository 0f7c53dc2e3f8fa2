"""Activations in runtimes that install quickly: exact results, or a known reason.

`make test` runs three activations: with one input, with two, and with a parameter.
`make test-matrix` runs all.
"""

import shutil

import pytest
from environments import install

from gatewave.certificates import certification
from gatewave.certificates.report.portability import Matrix, text
from gatewave.certificates.runtimes import catalogue
from gatewave.models import ACTIVATIONS

RIGHT = ("reference", "numpy", "torch", "onnxruntime")
QUICK = (*RIGHT, "openvino", "onnxruntime-web")


SOME = ("sinc", "geglu", "swish")


@pytest.fixture(
    scope="module",
    params=[SOME, pytest.param(tuple(ACTIVATIONS), marks=pytest.mark.matrix)],
    ids=["some", "all"],
)
def matrix(request):
    runtimes = [catalogue.find(name) for name in QUICK]
    there = [r for r in runtimes if r.language != "node" or shutil.which("npm")]
    for runtime in there:
        install(runtime)
    plan = certification.CertificationPlan(runtimes=there, graphs=["value"])
    return Matrix([certification.of_activation(ACTIVATIONS[name], plan) for name in request.param])


def test_every_cell_is_exact_or_explained(matrix):
    assert [(row.runtime, *cell.place, cell.why) for row, cell in matrix.unexplained()] == []
    assert all(row.versions for row in matrix.rows().values())


def test_most_are_exact(matrix):
    cells = list(matrix.cells())
    exact = [cell for _, cell in cells if cell.verdict == "exact"]
    assert len(exact) > 0.9 * len(cells)
    of_these = [cell for row, cell in cells if row.runtime in RIGHT]
    assert of_these
    assert all(cell.verdict == "exact" for cell in of_these)


def test_the_page_has_every_runtime_and_activation(matrix):
    page = text(matrix.certificates)
    for row in matrix.rows().values():
        assert f"| {row.title} |" in page
    for subject in matrix.subjects():
        assert f" {subject} |" in page
    assert "Not explained" not in page
    assert "## Defects found in runtimes" in page
