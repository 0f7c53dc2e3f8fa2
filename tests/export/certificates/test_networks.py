"""Certificates of models: what tells something of a runtime, and what does not."""

import numpy as np
import onnx
import onnx.parser
import pytest

from export.certificates import making
from export.certificates.making import Plan
from export.certificates.truth import Due, network
from export.errors import ModelError, NotRunnableError
from export.proof.differences import Tolerance
from export.proof.samples import Case
from export.runtimes import catalogue

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
ORT = "onnxruntime"
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
    (row,) = certified(HALVES, "onnxruntime").rows
    (cell,) = row.cells
    assert cell.verdict == "refused"
    assert "cannot be split evenly" in cell.why
    count, _, total = cell.why.partition(" inputs")[0].split()
    verdicts = [tried.verdict for tried in cell.cases]
    assert 0 < int(count) < int(total) == len(cell.cases)
    assert verdicts.count("refused") == int(count)
    assert verdicts.count("exact") == int(total) - int(count)
    assert cell.elements > 0


def test_what_says_what_is_due_is_not_compared_with_itself(certified):
    text = HEAD + "(float[N] x) => (float[N] y) { y = Neg(x) }"
    certificate = certified(text, "reference", "onnxruntime", "numpy", "torch")
    assert certificate.truth == "the onnx reference evaluator"
    assert certificate.holds
    assert [len(row.cells) for row in certificate.rows] == [0, 1, 0, 0]
    whys = [row.why for row in certificate.rows if not row.cells]
    assert "what it gives is what is due" in whys[0]
    assert all("runs no models" in why for why in whys[1:])


def test_where_the_reference_evaluator_refuses_onnx_runtime_says_what_is_due(certified):
    head = HEAD.replace("17]", '17, "com.microsoft" : 1]')
    text = head + "(float[N] x) => (float[N] y) { y = com.microsoft.QuickGelu(x) }"
    certificate = certified(text, "reference", "onnxruntime")
    assert certificate.truth == "ONNX Runtime, as installed"
    assert [[cell.verdict for cell in row.cells] for row in certificate.rows] == [["refused"], []]
    assert not certificate.holds


def test_the_certificate_says_how_each_output_was_compared(certified):
    text = HEAD + "(float[N] x) => (float[N] y, int64[M] n) { y = Exp(x) n = Shape(x) }"
    (row,) = certified(text, "onnxruntime").rows
    y, n = row.cells
    assert y.allowed == "0.0001 of the number, or 0.0001 of the scale around it"
    assert n.allowed == "none: it is equal"
    assert len(y.model) == 64
    assert {tried.name.partition(",")[0] for tried in y.cases} >= {"normal", "NaN", "infinities"}


def test_a_truth_that_takes_its_time_is_asked_less_and_it_is_said(tmp_path):
    path = tmp_path / "model.onnx"
    loop = """(float[N] x) => (float[N] y) <int64 n = {40000}, bool yes = {1}> {
        y = Loop (n, yes, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] t) {
            d = Identity(c) t = Sigmoid(s) }> }"""
    onnx.save(onnx.parser.parse_model(HEAD + loop), path)
    made = network(path, 0, 5.0)
    assert not made.whole
    assert 0 < len(made.due) < 11
    assert "for lack of time (--timeout)" in made.said()


RANDOM = {
    "an operator": "y = RandomNormalLike(x)",
    "dropping out": "ratio = Constant<value_float = 0.5>() yes = Constant<value = bool {1}>() "
    "y = Dropout(x, ratio, yes)",
}


@pytest.mark.parametrize("random", RANDOM)
def test_what_changes_from_run_to_run_is_left_out(certified, random):
    body = f"z = Neg(x) {RANDOM[random]}"
    certificate = certified(HEAD + f"(float[N] x) => (float[N] z, float[N] y) {{ {body} }}", ORT)
    assert [*certificate.left_out] == ["y"]
    assert [cell.subject for _, cell in certificate.cells()] == ["z"]
    with pytest.raises(NotRunnableError, match="nothing of it can be certified: output y"):
        certified(HEAD + f"(float[N] x) => (float[N] y) {{ {RANDOM[random]} }}", ORT)


OTHERS = {
    "a sequence out": ("(float[N] x) => (seq(float[N]) y) { y = SequenceConstruct(x) }", "output"),
    "a sequence in": ("(seq(float[N]) x) => (float[M] y) { y = ConcatFromSequence<axis = 0>(x) }",
                      "input"),
    "nothing": ("(float[N] x) => () { y = Neg(x) }", "it has no outputs"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_tensor_is_told(certified, other):
    text, says = OTHERS[other]
    with pytest.raises(ModelError, match=says):
        certified(HEAD + text, ORT)


def test_an_unstable_element_excuses_no_others(tmp_path):
    # The sine of 1e16 · x is noise in float64, that of x is not: a float32 sine is no match for it.
    path = tmp_path / "model.onnx"
    text = """(double[n] x) => (double[m] y) <double big = {1e16}>
        { a = Sin(x) b = Mul(x, big) c = Sin(b) y = Concat<axis = 0>(a, c) }"""
    onnx.save(onnx.parser.parse_model(HEAD + text), path)
    made = network(path, 0, 60.0)
    usual = next(due for due in made.due if due.case.name.startswith("0 to 1"))
    y = usual.outputs["y"]
    half = len(y) // 2
    for index, holds in ((half + 3, True), (3, False)):
        other = y.copy()
        other[index] = np.float32(other[index])
        assert (usual.between("y", other, made.tolerance).used <= 1) == holds
    assert usual.between("y", y.astype(np.float32).astype(float), made.tolerance).wrong > 0


def due(values, inputs, *, extreme, moved=None):
    y = np.array(values, np.float32)
    case = Case("huge", {"x": np.array(inputs, np.float32)}, extreme)
    return Due(case, {"y": y}, [{"y": y if moved is None else np.array(moved, np.float32)}])


HUGE = due([np.inf, np.nan, 2.0, 3e38], [1e38, -1e38], extreme=True)


@pytest.mark.parametrize(
    "got", [[1.0, 1.0, 2.0, np.inf], [np.nan, np.inf, 2.0, np.nan], [np.inf, np.nan, 2.0, 3e38]]
)
def test_what_overflows_in_one_order_only_is_passed_over(got):
    assert HUGE.between("y", np.array(got, np.float32), Tolerance()).used <= 1


def test_what_is_finite_in_both_is_compared():
    got = np.array([np.inf, np.nan, 3.0, 1e38], np.float32)
    found = HUGE.between("y", got, Tolerance())
    assert found.used > 1
    assert found.wrong == 1  # the scale is that of 3e38, but for the difference of 2e38
    assert HUGE.passed_over("y", got).tolist() == [True, True, False, False]


@pytest.mark.parametrize("extreme", [False, True])
def test_what_is_made_of_infinities_or_of_usual_numbers_has_to_be_the_same(extreme):
    inputs = [np.inf, 0.0] if extreme else [1.0, 2.0]
    wanted = due([0.0, 1.0], inputs, extreme=extreme)
    got = np.array([np.nan, 1], np.float32)
    assert not wanted.passed_over("y", got).any()
    assert wanted.between("y", got, Tolerance()).used > 1


def test_what_a_step_of_the_inputs_makes_infinite_is_passed_over():
    wanted = due([1.0, 2.0], [0.5, 0.5], extreme=False, moved=[np.inf, 2.0])
    assert wanted.between("y", np.array([np.nan, 2], np.float32), Tolerance()).used <= 1
    assert wanted.between("y", np.array([1, np.nan], np.float32), Tolerance()).used > 1


def test_an_index_that_a_step_of_the_inputs_changes_is_passed_over():
    case = Case("normal", {"x": np.zeros(2, np.float32)})
    wanted = Due(case, {"y": np.array([1, 2])}, [{"y": np.array([1, 3])}])
    assert wanted.between("y", np.array([1, 0]), Tolerance()).used <= 1
    assert wanted.between("y", np.array([0, 2]), Tolerance()).used > 1


def test_another_shape_or_no_output_is_a_difference():
    for got in (None, np.zeros(3, np.float32), np.zeros(4)):
        assert HUGE.between("y", got, Tolerance()).used == np.inf
