"""Inspection of a model: its activations, and their share of the operations."""

import json

import numpy as np
import pytest
from drawing import Drawing, drawn

from gatewave.graphs.rewrite.inspection import inspect, report


def _layer():
    """Write a product of 8 × 16 by 16 × 32, 8,192 operations, and a SiLU of 8 × 32 elements."""
    drawing = Drawing(shape=(8, 32))
    x, weight = drawing.input("x", (8, 16)), drawing.input("w", (16, 32))
    y = drawing.MatMul(x, weight)
    drawing.output(drawing.Mul(y, drawing.Sigmoid(y)), "out")
    return drawing.model()


def test_the_share_of_the_computing_is_estimated():
    inspection = inspect(_layer())
    (site,) = inspection.sites
    assert inspection.operations == 2 * 8 * 16 * 32 + 8 * 8 * 32
    assert inspection.shares[site] == pytest.approx(8 * 8 * 32 / inspection.operations)
    assert inspection.open_sizes == 0


def test_a_convolution_counts_its_kernel():
    drawing = Drawing(shape=(1, 4, 6, 6))
    x, weight = drawing.input("x", (1, 3, 8, 8)), drawing.input("w", (4, 3, 3, 3))
    drawing.output(drawing.Relu(drawing.Conv(x, weight)), "out")
    assert inspect(drawing.model()).operations == 2 * 4 * 36 * 27 + 4 * 36


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_counts_its_inner_axis(transposed):
    drawing = Drawing(shape=(8, 32))
    weight = (32, 16) if transposed else (16, 32)
    x, w = drawing.input("x", (8, 16)), drawing.input("w", weight)
    drawing.output(drawing.Gemm(x, w, transB=transposed), "out")
    assert inspect(drawing.model()).operations == 2 * 8 * 16 * 32


def test_unknown_sizes_count_as_one_and_are_counted():
    inspection = inspect(drawn(lambda op, x: op.Relu(x), shape=("n", 4)))
    assert (inspection.operations, inspection.open_sizes) == (4, 1)


def test_impossible_sizes_count_as_the_limit():
    drawing = Drawing(shape=(2**60,) * 300)
    drawing.output(drawing.Relu(drawing.input("x")), "out")
    inspection = inspect(drawing.model())
    assert inspection.operations == 2**63 - 1
    assert json.dumps(report(inspection))


def test_negative_sizes_are_not_known():
    inspection = inspect(drawn(lambda op, x: op.Relu(x), shape=(-5, 4)))
    assert (inspection.operations, inspection.open_sizes) == (4, 1)


def test_nan_parameter_is_a_word_in_report():
    drawing = Drawing(opset=28)
    given = drawing.input("x"), drawing.input("y")
    drawing.output(drawing.SwiGLU(*given, alpha=np.nan), "out")
    document = report(inspect(drawing.model()))
    assert document["activations"][0]["parameters"] == {"alpha": "NaN"}


def test_opsets_versions_and_types_are_told():
    inspection = inspect(_layer())
    assert (inspection.ir_version, inspection.opsets) == (10, {"": 18})
    assert inspection.dtypes == {"FLOAT": 3}
    assert inspection.counts() == {("swish", "decomposed"): 1}


def test_the_report_is_for_scripts():
    document = report(inspect(_layer()))
    (activation,) = document["activations"]
    assert activation["kind"] == "swish"
    assert activation["parameters"] == {"alpha": 1.0}
    assert activation["operators"] == ["Sigmoid", "Mul"]
    assert (activation["output"], activation["dtype"]) == ("out", "FLOAT")
    assert document["near_misses"] == []


def test_a_model_of_nothing_is_inspected():
    inspection = inspect(drawn(lambda op, x: op.Identity(x)))
    assert (inspection.sites, dict(inspection.shares)) == ([], {})
