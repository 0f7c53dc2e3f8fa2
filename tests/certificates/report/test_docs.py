"""Generated pages: written from the records, and checked for being current."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sharing import once

from gatewave.certificates import document
from gatewave.certificates.report import docs
from gatewave.export import accuracy_page, markdown
from gatewave.models import ACTIVATIONS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    return once(tmp_path_factory, "docs", docs.write)


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "docs")


def test_what_was_just_written_differs_in_nothing(folder):
    assert list(docs.differences(folder)) == []


def test_every_record_has_its_section_its_picture_and_its_operators(folder, activation, operator):
    page = (folder / "activations.md").read_text()
    assert f"## {activation.title}\n\n{activation.summary}" in page
    assert f"](plots/{activation.stem(operator)}.svg)" in page
    assert (folder / "plots" / f"{activation.stem(operator)}.svg").is_file()
    for suffix in ("", "ValueAndGrad", "VJP"):
        assert f"`{operator.op_type}{suffix}`" in page
    for sentence in (*activation.properties, *activation.uses, *activation.limits):
        assert f"- {sentence}\n" in page


def test_a_line_that_the_records_do_not_give_is_named(folder):
    page = folder / "activations.md"
    page.write_text(page.read_text().replace("4 ULP", "3 ULP", 1))
    (difference,) = docs.differences(folder)
    assert difference.startswith(f"{page}:")
    assert "3 ULP" in difference.partition(", but the records give ")[0]


def test_a_page_that_is_missing_is_named(folder):
    (folder / "activations.md").unlink()
    (difference,) = docs.differences(folder)
    assert difference.startswith(f"{folder / 'activations.md'}:1: is ''")


def test_the_schema_of_certificates_is_written_and_held_to(folder):
    path = folder / "certificate.schema.json"
    assert json.loads(path.read_text()) == document.schema()
    path.write_text(path.read_text().replace('"Certificate"', '"Promise"'))
    (difference,) = docs.differences(folder)
    assert "Promise" in difference


def test_pictures_that_are_missing_or_of_no_record_are_named_and_mended(folder):
    (folder / "plots" / "sinc.svg").unlink()
    (folder / "plots" / "cosc.svg").touch()
    assert list(docs.differences(folder)) == [
        f"{folder / 'plots' / 'sinc.svg'}: is missing",
        f"{folder / 'plots' / 'cosc.svg'}: shows no record",
    ]
    docs.write(folder)
    assert list(docs.differences(folder)) == []


def test_the_command_tells_what_differs_and_fails(folder):
    (folder / "plots" / "cosc.svg").touch()
    ended = subprocess.run(
        [
            sys.executable,
            *docs.COMMAND.split()[1:],
            "--check",
            "--folder",
            str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert f"cosc.svg: shows no record\nRun `{docs.COMMAND}`." in ended.stderr


def test_bars_in_cells_are_escaped():
    assert markdown.table(("a", "b"), [("|x|", "1")]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        r"| \|x\| | 1 |",
    ]


@pytest.fixture(scope="session")
def measured():
    return accuracy_page.text({"sinc": ACTIVATIONS["sinc"]})


def test_measured_errors_stand_with_the_versions_they_were_measured_with(measured):
    assert "## sinc" in measured
    assert "| vjp | `grad_x` | " in measured
    assert "onnxruntime 1." in measured
    assert "Measure again with `python -m gatewave.export.accuracy_page`" in measured


def test_a_plain_export_of_sinc_is_shown_for_what_it_is(measured):
    rows = {
        line.split(" | ")[1]: line.split(" | ")
        for line in measured.splitlines()
        if line.startswith("| `torch.sinc(x)`")
    }
    assert float(rows["float64"][2]) < 1e-15
    assert float(rows["float64"][3]) > 1e-8
    assert "does not run" in rows["bfloat16"][3]
    assert int(rows["float32"][5].removesuffix(" |")) > 0
