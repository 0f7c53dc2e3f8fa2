"""Probing of the installed ONNX Runtime; its file gives the same results."""

import sys
from pathlib import Path

import fake_runtimes
import onnxruntime as ort
import pytest
from probing import disagreements

from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.targets import probe, probe_models
from gatewave.graphs.targets.probed_target import target_of, this


@pytest.fixture(scope="session")
def answer():
    return probe.ask(Path(sys.executable))


def installed():
    return targets.find("onnxruntime-" + ".".join(ort.__version__.split(".")[:2]) + "-cpu")


def test_the_file_of_the_installed_version_agrees_with_probing_it(answer):
    assert list(disagreements(answer, installed())) == []


def test_the_probed_target_says_what_the_file_says(answer):
    probed, written = target_of(answer), installed()
    assert (probed.opsets, probed.ir) == (written.opsets, written.ir)
    assert (probed.functions, probed.dtypes) == (written.functions, written.dtypes)
    assert {d.defect for d in probed.defects} == {d.defect for d in written.defects}
    assert list(disagreements(answer, probed)) == []


@pytest.fixture
def quick(tmp_path):
    """Return a Python that answers at once, and a folder for the cache."""
    return fake_runtimes.python(tmp_path / "bin", run="return [[9, 9, 9, 9]]"), tmp_path / "cache"


def test_what_is_remembered_is_not_asked_again(quick):
    python, folder = quick
    first = probe.probe(folder, python)
    python.unlink()
    assert probe.probe(folder, python) == first


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rows": [{}], "version": 1, "providers": []}'])
def test_a_damaged_memory_is_replaced(quick, damage):
    python, folder = quick
    first = probe.probe(folder, python)
    (file,) = folder.iterdir()
    whole = file.read_text()
    file.write_text(damage)
    assert probe.probe(folder, python) == first
    assert file.read_text() == whole


def test_a_folder_that_cannot_be_written_is_done_without(quick):
    python, _ = quick
    assert probe.probe(python / "below", python).version == "0"


def test_the_cache_is_where_the_desktop_standard_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert probe.cache_folder() == tmp_path / "gatewave"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert probe.cache_folder() == tmp_path / ".cache" / "gatewave"


def test_a_model_that_brings_the_process_down_is_one_row(tmp_path):
    load = "if b'Mish' in model: os.abort()\n        raise RuntimeError('no')"
    python = fake_runtimes.python(tmp_path, load=load)
    rows = probe.ask(python).rows
    assert len(rows) == len(list(probe_models.cells())) + len(probe.IR_VERSIONS)
    assert {row.outcome for row in rows if row.operator == "Mish"} == {"crashed"}
    assert {row.outcome for row in rows if row.operator != "Mish"} == {"refused"}
    with pytest.raises(TargetError, match="runs no model"):
        target_of(probe.Answer("0", ("CPUExecutionProvider",), rows))


def test_wrong_numbers_do_not_pass_for_running(quick):
    python, folder = quick
    assert {row.outcome for row in probe.probe(folder, python).rows} == {"wrong"}


def test_a_runtime_that_does_not_start_is_said():
    with pytest.raises(TargetError, match="does not start"):
        probe.ask(Path("/bin/false"))


def test_this_is_the_installed_runtime(tmp_path):
    assert f"onnxruntime {ort.__version__}" in this(tmp_path).name
    assert len(list(tmp_path.iterdir())) == 1
