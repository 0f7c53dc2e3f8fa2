"""Table of the operators that onnx's evaluator and ONNX Runtime compute differently."""

from pathlib import Path

import onnx
import pytest

from gatewave.certificates.report import evaluator_defects, evaluator_page
from gatewave.certificates.report.evaluator_cases import variants
from gatewave.certificates.report.evaluator_page import EvaluatorRow, reasons, text

PAGE = Path("docs/evaluator.md")
SECTIONS = ("Different results", "Refused by the evaluator", "Refused by ONNX Runtime")


@pytest.fixture(scope="module")
def found():
    return evaluator_defects.compared(["BatchNormalization", "GlobalMaxPool", "Squeeze"])


def lines(page, section):
    """Return the cells of the table, or of the list, in a section."""
    body = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    table = [line for line in body.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_batch_normalization_is_found_at_each_version_and_type(found):
    rows, versions = found
    assert {"onnx", "onnxruntime"} <= {*versions}
    wrong = {
        (row.opsets, row.dtype): row
        for row in rows
        if row.operator == "BatchNormalization" and row.outcome == "differ" and row.ours
    }
    for dtype in ("float16", "float32", "float64"):
        row = wrong[(9, 13), dtype]
        assert "by the evaluator" in row.example
        assert evaluator_page.reason_of(row).right == "ONNX Runtime"
    refused = [r for r in rows if r.opsets == (7, 8) and r.outcome == "refused by the evaluator"]
    assert {row.dtype for row in refused} == {"float16", "float32", "float64"}
    assert all(row.ours for row in refused)


def test_what_is_right_in_images_alone_is_found(found):
    wrong = [r for r in found[0] if r.operator == "GlobalMaxPool" and r.outcome == "differ"]
    assert {row.opsets for row in wrong} == {(7, 21), (22, None)}
    assert all(row.ours for row in wrong)


def test_what_was_an_attribute_is_one_at_earlier_opsets():
    made = {v.opsets: v.model for v in variants(["Squeeze"]) if v.test == "test_squeeze"}
    old, new = made[7, 10].graph.node[0], made[13, 20].graph.node[0]
    assert (len(old.input), [a.name for a in old.attribute]) == (1, ["axes"])
    assert (len(new.input), [a.name for a in new.attribute]) == (2, [])
    assert [o.version for o in made[7, 10].opset_import] == [7]


def test_the_page_is_that_of_the_rows(found):
    page = text(*found)
    by_operator = {line[0] for line in lines(page, "Different results")}
    assert by_operator == {"`BatchNormalization`", "`GlobalMaxPool`"}
    assert [f"## {section}" in page for section in SECTIONS] == [True] * 3


def test_the_page_in_the_repository_is_whole():
    page = PAGE.read_text(encoding="utf-8")
    operators = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    for section, count in (("Different results", 8), ("Refused by the evaluator", 6)):
        table = lines(page, section)
        assert table
        for line in table:
            assert len(line) == count
            assert line[0].strip("`").rpartition(".")[2] in operators
    rows = lines(page, "Different results")
    assert all(evaluator_page.UNKNOWN not in line for line in rows)
    assert any(line[:2] == ["`BatchNormalization`", "9–13"] for line in rows)
    assert evaluator_page.INTRODUCTION in page


def test_each_reason_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    assert all(reason.why in page for reason in reasons())


def test_rows_of_one_kind_are_one():
    rows = [
        EvaluatorRow("Relu", (7, 12), "float32", "agree", 1, "", ours=one) for one in (True, False)
    ]
    (row,) = evaluator_defects.rows(rows)
    assert (row.cases, row.ours) == (2, False)
