"""Certificates of models: what tells something of a runtime, and what does not."""

import numpy as np
import onnx
import onnx.parser
import pytest

from export.certificates import making
from export.certificates.making import Plan
from export.certificates.networks import Due
from export.proof.differences import Tolerance
from export.proof.samples import Case
from export.runtimes import catalogue

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
HALVES = HEAD + "(float[N] x) => (float[M] y) { y, other = Split <axis = 0> (x) }"
"""The reference evaluator makes uneven halves, where ONNX Runtime refuses to."""


@pytest.fixture
def certified(tmp_path):
    def certified(text, *names):
        path = tmp_path / "model.onnx"
        onnx.save(onnx.parser.parse_model(text), path)
        runtimes = [catalogue.find(name) for name in names]
        return making.of_model(path, Plan(runtimes=runtimes, seconds=60.0))

    return certified


def test_what_one_input_is_refused_for_hides_no_others(certified):
    of_reference, of_onnxruntime = certified(HALVES, "reference", "onnxruntime").rows
    (exact,), (refused,) = of_reference.cells, of_onnxruntime.cells
    assert exact.verdict == "exact"
    assert refused.verdict == "refused"
    assert "cannot be split evenly" in refused.why
    count, _, total = refused.why.partition(" inputs")[0].split()
    assert 0 < int(count) < int(total) == len(exact.cases)
    assert len(refused.cases) == int(total) - int(count)
    assert 0 < refused.elements < exact.elements


def test_sources_run_no_models_and_say_so(certified):
    text = HEAD + "(float[N] x) => (float[N] y) { y = Neg(x) }"
    certificate = certified(text, "reference", "numpy", "torch")
    assert [len(row.cells) for row in certificate.rows] == [1, 0, 0]
    assert all("it runs no models" in row.why for row in certificate.rows[1:])


def due(values, inputs, *, extreme):
    y = np.array(values, np.float32)
    case = Case("huge", {"x": np.array(inputs, np.float32)}, extreme)
    return Due(case, {"y": y}, {"y": y})


HUGE = due([np.inf, np.nan, 2.0, 3e38], [1e38, -1e38], extreme=True)


@pytest.mark.parametrize(
    "got", [[1.0, 1.0, 2.0, np.inf], [np.nan, np.inf, 2.0, np.nan], [np.inf, np.nan, 2.0, 3e38]]
)
def test_what_overflows_in_one_order_only_is_passed_over(got):
    assert HUGE.between("y", np.array(got, np.float32), Tolerance()).used <= 1


def test_what_is_finite_in_both_is_compared():
    got = np.array([np.inf, np.nan, 3.0, 1e38], np.float32)
    assert HUGE.between("y", got, Tolerance()).used > 1
    assert HUGE.overflown("y", got).tolist() == [True, True, False, False]


@pytest.mark.parametrize("extreme", [False, True])
def test_what_is_made_of_infinities_or_of_usual_numbers_has_to_be_the_same(extreme):
    inputs = [np.inf, 0.0] if extreme else [1.0, 2.0]
    wanted = due([0.0, 1.0], inputs, extreme=extreme)
    assert wanted.overflown("y", np.array([np.nan, 1], np.float32)) is None
    assert wanted.between("y", np.array([np.nan, 1], np.float32), Tolerance()).used > 1


def test_another_shape_or_no_output_is_a_difference():
    for got in (None, np.zeros(3, np.float32), np.zeros(4)):
        assert HUGE.between("y", got, Tolerance()).used == np.inf
