"""Folder of artifacts: atomic writes, no stale files, and no removal of foreign files."""

import dataclasses
import json

import onnxruntime as ort
import pytest
import torch

from gatewave.export.accuracy.certify import run
from gatewave.export.artifacts import MANIFEST, Selection, expected_files, file_names, write
from gatewave.export.errors import ToleranceError
from gatewave.models import ACTIVATIONS

SIGMOID, SWISH = ACTIVATIONS["sigmoid"], ACTIVATIONS["swish"]
SMALL = Selection(dtypes=("float32",), graphs=("value", "vjp"))


def names(folder):
    return {path.name for path in folder.iterdir()}


def wrong(activation):
    """Return a record with a decomposition that differs from its formula."""
    (operator,) = activation.operators

    def value(op, x, **reals):
        return op.Mul(operator.value(op, x, **reals), 1.001)

    return dataclasses.replace(activation, operators=(dataclasses.replace(operator, value=value),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent") / "new" / "artifacts"
    write([SIGMOID], folder, SMALL)
    return folder


def test_it_holds_what_was_selected_and_nothing_else(folder):
    assert names(folder) == {
        "sigmoid.value.float32.onnx",
        "sigmoid.value.float32.decomposed.onnx",
        "sigmoid.vjp.float32.onnx",
        "sigmoid.vjp.float32.decomposed.onnx",
        "sigmoid.svg",
        "sigmoid.png",
        MANIFEST,
    }
    assert names(folder) == {*file_names(SIGMOID, SMALL), MANIFEST}
    assert names(folder.parent) == {"artifacts"}


def test_its_models_run(folder):
    x = torch.tensor([-1.0, 0.0, 4.0])
    for path in folder.glob("*.value.*.onnx"):
        (y,) = run(path.read_bytes(), {"x": x}).values()
        torch.testing.assert_close(y, torch.sigmoid(x))


def test_another_selection_adds_to_it_and_another_order_changes_no_byte(folder, tmp_path):
    reverse = dataclasses.replace(SMALL, forms=SMALL.forms[::-1], graphs=SMALL.graphs[::-1])
    write([SIGMOID], tmp_path, reverse)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
    write([SIGMOID], tmp_path, dataclasses.replace(SMALL, dtypes=("float64",)))
    assert names(folder) < names(tmp_path)


def listed(folder):
    return set(json.loads((folder / MANIFEST).read_text())["files"])


def test_the_manifest_lists_all_files_and_keeps_those_of_other_selections(folder, tmp_path):
    assert listed(folder) == names(folder) - {MANIFEST}
    write([SIGMOID], tmp_path, SMALL)
    (tmp_path / "sigmoid.png").unlink()
    (tmp_path / "a file of others").touch()
    write([SWISH], tmp_path, SMALL)
    assert listed(tmp_path) == names(tmp_path) - {MANIFEST, "a file of others"}
    (tmp_path / MANIFEST).write_text("[")
    write([SWISH], tmp_path, SMALL)
    assert listed(tmp_path) == set(file_names(SWISH, SMALL))


def test_nothing_is_written_if_any_tolerance_is_missed(tmp_path):
    made = []
    with pytest.raises(ToleranceError, match="the decomposition of swish: y at x="):
        write([SIGMOID, wrong(SWISH)], tmp_path / "artifacts", SMALL, made.append)
    assert len(made) == expected_files(SIGMOID, SMALL)
    assert names(tmp_path) == set()


def test_a_folder_that_exists_stays_as_it_was_if_any_tolerance_is_missed(tmp_path):
    (tmp_path / "sigmoid.value.float32.onnx").write_bytes(b"of before")
    with pytest.raises(ToleranceError):
        write([SIGMOID, wrong(SWISH)], tmp_path, SMALL)
    assert names(tmp_path) == {"sigmoid.value.float32.onnx"}
    assert (tmp_path / "sigmoid.value.float32.onnx").read_bytes() == b"of before"


def test_what_another_version_left_is_removed_and_what_is_not_ours_stays(tmp_path):
    stale = {"sigmoid-steep.grad.float32.onnx", "sigmoid.hessian.float32.onnx", "sigmoid-steep.svg"}
    foreign = {"theirs.value.float32.onnx", "sigmoid_like.svg", ".stamp", "sigmoid.txt"}
    other_selection = {"sigmoid.grad.float64.onnx"}
    for name in stale | foreign | other_selection:
        (tmp_path / name).touch()
    write([SIGMOID], tmp_path, SMALL)
    assert names(tmp_path) == {*file_names(SIGMOID, SMALL), MANIFEST} | foreign | other_selection


def test_two_activations_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two activations have one name"):
        write([SIGMOID, SIGMOID], tmp_path / "artifacts", SMALL)


def test_a_folder_that_cannot_be_written_is_an_operating_system_s_error(tmp_path):
    (tmp_path / "artifacts").touch()
    with pytest.raises(OSError, match="artifacts"):
        write([SIGMOID], tmp_path / "artifacts", SMALL)


@pytest.mark.parametrize("rank", [0, 3, None])
def test_its_models_declare_the_rank_asked_for(tmp_path, rank):
    write([SIGMOID], tmp_path, Selection(dtypes=("float32",), graphs=("value",), rank=rank))
    session = ort.InferenceSession(
        tmp_path / "sigmoid.value.float32.onnx", providers=["CPUExecutionProvider"]
    )
    declared = session.get_inputs()[0].shape
    assert len(declared) == (rank or 0)


def test_it_is_counted_before_it_is_made(activation):
    assert expected_files(activation, Selection()) == len(activation.operators) * (3 * 4 * 2 + 2)
