"""What of the operator's folder may be opened."""

import os

import numpy as np
import pytest
from graphs import external, put, unary

from gatewave.service.errors import ModelRefused
from gatewave.service.repository.files import read_version
from gatewave.service.repository.folder import fingerprint, is_name, model_folders, read_plan

MOST = 1 << 32
WEIGHTS = np.array([2.0, 3.0], np.float32).tobytes()


@pytest.fixture
def version(root):
    """The folder of a version whose weights lie in a file beside it."""
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
def test_a_name_is_of_letters_digits_and_three_signs(name):
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "x" * 65, "a\n", "a\0"])
def test_any_other_name_is_none(name):
    assert not is_name(name)


def test_hidden_folders_and_loose_files_are_not_meant(root):
    put(root, "m", "1", unary("Neg"))
    (root / ".git").mkdir()
    (root / "README").write_text("mine")
    (root / "self").symlink_to("self")
    (root / "nowhere").symlink_to("missing")
    assert model_folders(root) == ["m"]


def test_external_data_beside_the_model_is_admitted_and_counted(root, version):
    found, files = read_version(root, version, MOST)
    assert {e.location for e in found.externals} == {"weights"}
    assert files.size == (version / "model.onnx").stat().st_size + len(WEIGHTS)


def test_external_data_may_lie_in_a_folder_of_the_version(root, version):
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


def test_external_data_that_is_not_there_is_refused(root, version):
    (version / "weights").unlink()
    assert refusal(root, version) == "weights: the file does not exist"


def test_external_data_that_is_too_short_is_refused(root, version):
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


def test_a_folder_that_is_a_link_out_is_refused(root, version):
    outside = root.parent / "elsewhere"
    version.rename(outside)
    version.symlink_to(outside)
    assert refusal(root, version) == "1: a link points out of the repository"


def test_a_link_that_leads_to_itself_is_refused(root, version):
    (version / "weights").unlink()
    (version / "weights").symlink_to("weights")
    assert "does not exist" in refusal(root, version)


def test_a_pipe_is_refused_and_not_waited_for(root, version):
    (version / "model.onnx").unlink()
    os.mkfifo(version / "model.onnx")
    assert refusal(root, version) == "model.onnx: expected a regular file"


def test_an_empty_file_is_refused(root, version):
    (version / "model.onnx").write_bytes(b"")
    assert refusal(root, version) == "model.onnx: the file is empty"


def test_a_file_larger_than_a_message_can_be_is_refused_unread(root, version):
    os.truncate(version / "model.onnx", 1 << 31)
    assert "expected at most 2147483647 bytes" in refusal(root, version)


def test_what_is_no_number_is_no_version(root):
    for version in ("1", "2", "0", "01", "-1", "v3", "tmp", "٣"):
        put(root, "m", version, unary("Neg"))
    found = read_plan(root, "m")
    assert found.present == {"1", "2"}
    assert found.invalid == {"0", "01", "-1"}
    assert list(found.wanted) == ["2"]


def test_a_folder_without_versions_says_so(root):
    (root / "m").mkdir()
    assert "the model has no version" in read_plan(root, "m").error


def test_versions_that_are_not_there_are_said(root):
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
def test_a_configuration_that_is_no_short_text_is_refused(root, raw, said):
    put(root, "m", "1", unary("Neg"))
    (root / "m" / "config.yaml").write_bytes(raw)
    assert said in read_plan(root, "m").error


def test_a_configuration_that_is_a_link_out_is_refused(root):
    put(root, "m", "1", unary("Neg"))
    (root.parent / "secret").write_text("a: 1")
    (root / "m" / "config.yaml").symlink_to(root.parent / "secret")
    assert "a link points out" in read_plan(root, "m").error


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_configuration_that_is_no_file_is_refused(root, make):
    put(root, "m", "1", unary("Neg"))
    make(root / "m" / "config.yaml")
    assert read_plan(root, "m").error == "config.yaml: expected a regular file"


def test_there_is_no_plan_for_what_is_not_there(root):
    assert read_plan(root, "m") is None


def test_the_fingerprint_tells_every_change_and_nothing_else(root, version):
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
