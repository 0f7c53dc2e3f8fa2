"""Operator's folder: names, versions, links and fingerprints."""

import os

import numpy as np
import pytest
from onnx_models import external, put, unary

from gatewave.service.errors import ModelRefused
from gatewave.service.repository.files import read_version
from gatewave.service.repository.folder import fingerprint, is_name, model_folders, read_plan

MOST = 1 << 32
WEIGHTS = np.array([2.0, 3.0], np.float32).tobytes()


@pytest.fixture
def version(root):
    """Return the folder of a version with external data."""
    put(root, "m", "1", external("weights"))
    folder = root / "m" / "1"
    (folder / "weights").write_bytes(WEIGHTS)
    return folder


def refusal(root, folder):
    with pytest.raises(ModelRefused) as caught:
        read_version(root, folder, MOST)
    assert str(root) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0", "x" * 64])
def test_valid_names_are_accepted(name):
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "x" * 65, "a\n", "a\0"])
def test_invalid_names_are_refused(name):
    assert not is_name(name)


def test_hidden_folders_and_files_are_ignored(root):
    put(root, "m", "1", unary("Neg"))
    (root / ".git").mkdir()
    (root / "README").write_text("mine")
    (root / "self").symlink_to("self")
    (root / "nowhere").symlink_to("missing")
    assert model_folders(root) == ["m"]


def test_external_data_beside_the_model_is_counted(root, version):
    found, files = read_version(root, version, MOST)
    assert {e.location for e in found.externals} == {"weights"}
    assert files.size == (version / "model.onnx").stat().st_size + len(WEIGHTS)


def test_external_data_may_be_in_a_subfolder(root, version):
    (version / "data").mkdir()
    (version / "weights").rename(version / "data" / "w.bin")
    put(root, "m", "1", external("data/w.bin"))
    read_version(root, version, MOST)


@pytest.mark.parametrize(
    "location",
    [
        "../../../secret",
        "/etc/passwd",
        "data/../../../../secret",
        "",
        "*/_ORT_MEM_ADDR_/*",
        "..\\secret",
        "C:secret",
        "a" * 5000,
    ],
)
def test_external_data_elsewhere_is_refused(root, version, location):
    (root.parent / "secret").write_bytes(WEIGHTS)
    put(root, "m", "1", external(location))
    assert "location" in refusal(root, version)


def test_missing_external_data_is_refused(root, version):
    (version / "weights").unlink()
    assert refusal(root, version) == "weights: the file does not exist"


def test_short_external_data_is_refused(root, version):
    put(root, "m", "1", external("weights", offset=4, length=8))
    assert refusal(root, version) == "weights: expected 12 bytes or more, got 8"


@pytest.mark.parametrize("name", ["weights", "model.onnx"])
def test_a_symbolic_link_out_is_refused(root, version, name):
    outside = root.parent / "outside"
    (version / name).rename(outside)
    (version / name).symlink_to(outside)
    assert refusal(root, version) == f"{name}: a link points out of 1"


@pytest.mark.parametrize("name", ["weights", "model.onnx"])
def test_a_hard_link_is_refused(root, version, name):
    os.link(version / name, root.parent / "outside")
    assert "2 hard links" in refusal(root, version)


def test_a_symbolic_link_within_the_version_is_admitted(root, version):
    (version / "weights").rename(version / "blob")
    (version / "weights").symlink_to("blob")
    read_version(root, version, MOST)


def test_a_link_to_another_folder_is_refused(root, version):
    outside = root.parent / "elsewhere"
    version.rename(outside)
    version.symlink_to(outside)
    assert refusal(root, version) == "1: a link points out of the repository"


def test_a_link_that_leads_to_itself_is_refused(root, version):
    (version / "weights").unlink()
    (version / "weights").symlink_to("weights")
    assert "does not exist" in refusal(root, version)


def test_a_pipe_is_refused_without_waiting(root, version):
    (version / "model.onnx").unlink()
    os.mkfifo(version / "model.onnx")
    assert refusal(root, version) == "model.onnx: expected a regular file"


def test_an_empty_file_is_refused(root, version):
    (version / "model.onnx").write_bytes(b"")
    assert refusal(root, version) == "model.onnx: the file is empty"


def test_a_too_large_graph_is_refused_unread(root, version):
    os.truncate(version / "model.onnx", 1 << 31)
    assert "expected at most 2147483647 bytes" in refusal(root, version)


def test_versions_are_positive_integers(root):
    for version in ("1", "2", "0", "01", "-1", "v3", "tmp", "٣"):
        put(root, "m", version, unary("Neg"))
    found = read_plan(root, "m")
    assert found.present == {"1", "2"}
    assert found.invalid == {"0", "01", "-1"}
    assert list(found.wanted) == ["2"]


def test_a_folder_without_versions_is_reported(root):
    (root / "m").mkdir()
    assert "the model has no version" in read_plan(root, "m").error


def test_missing_versions_are_reported(root):
    put(root, "m", "4", unary("Neg"), "versions: [1, 2]")
    assert (
        read_plan(root, "m").error
        == "config.yaml: versions: expected one of the existing versions, 4"
    )


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"versions: \xff", "config.yaml: expected UTF-8"),
        (b"#" * 70_000, "config.yaml: expected at most 65536 bytes, got 70000"),
    ],
)
def test_long_or_binary_configurations_are_refused(root, raw, said):
    put(root, "m", "1", unary("Neg"))
    (root / "m" / "config.yaml").write_bytes(raw)
    assert said in read_plan(root, "m").error


def test_a_link_as_configuration_is_refused(root):
    put(root, "m", "1", unary("Neg"))
    (root.parent / "secret").write_text("a: 1")
    (root / "m" / "config.yaml").symlink_to(root.parent / "secret")
    assert "a link points out" in read_plan(root, "m").error


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_as_configuration_is_refused(root, make):
    put(root, "m", "1", unary("Neg"))
    make(root / "m" / "config.yaml")
    assert read_plan(root, "m").error == "config.yaml: expected a regular file"


def test_a_missing_folder_has_no_plan(root):
    assert read_plan(root, "m") is None


def test_the_fingerprint_changes_with_the_files(root, version):
    more = version / "more"
    changes = (
        lambda: (version / "weights").write_bytes(WEIGHTS * 2),
        lambda: put(root, "m", "1", external("weights")),
        lambda: (root / "m" / "config.yaml").write_text("versions: all"),
        more.touch,
        more.unlink,
    )
    old = version / "old"
    old.touch()
    mtime = old.stat().st_mtime_ns
    changes += (lambda: (old.write_text(""), os.utime(old, ns=(mtime, mtime))),)
    before = fingerprint(root / "m", "1")
    assert fingerprint(root / "m", "1") == before
    for change in changes:
        change()
        after = fingerprint(root / "m", "1")
        assert after != before
        before = after
