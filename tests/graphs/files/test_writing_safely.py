"""Atomic writes of models: source files are kept, and a failure loses no file."""

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx_files import normal

from gatewave.graphs.errors import ModelError, NotWrittenError
from gatewave.graphs.files.files import read, write

WEIGHTS = np.arange(4, dtype=np.float32)


@pytest.fixture
def rich(saved):
    return saved(
        '<ir_version: 10, opset_import: ["": 20]> g (float[n] x) => (float[n] y) { y = Relu(x) }'
    )


def everything(folder):
    """Return the files in ``folder`` with their contents."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestSource:
    """The files of the source model and its data are never overwritten."""

    @pytest.fixture(params=["itself", "spelt otherwise", "symbolic link", "hard link"])
    def named(self, request, tmp_path):
        """Return a function that gives another name to a file."""

        def name(path):
            if request.param == "itself":
                return path
            if request.param == "spelt otherwise":
                return path.parent / ".." / path.parent.name / path.name
            link = tmp_path / "links" / path.name
            link.parent.mkdir()
            (link.symlink_to if request.param == "symbolic link" else link.hardlink_to)(path)
            return link

        return name

    def test_the_model_is_kept(self, external, tmp_path, named):
        model, path = read(external), named(external)
        before = everything(tmp_path)
        with pytest.raises(ModelError, match="is the model that was read"):
            write(model, path, source=external)
        assert everything(tmp_path) == before

    def test_its_data_are_kept(self, external, tmp_path, named):
        model, path = read(external), named(tmp_path / "w.bin")
        before = everything(tmp_path)
        with pytest.raises(ModelError, match="or holds its data"):
            write(model, path, source=external)
        assert everything(tmp_path) == before

    def test_unused_data_files_are_protected_too(self, external, tmp_path):
        model = read(external)
        model.graph.initializers["w"].const_value = ir.tensor(WEIGHTS, name="w")
        with pytest.raises(ModelError, match="or holds its data"):
            write(model, tmp_path / "w.bin", source=external)

    def test_data_file_of_the_same_name_is_refused(self, external, tmp_path):
        write(read(external), tmp_path / "out.onnx", source=external)
        (data,) = tmp_path.glob("out.onnx.*.data")
        renamed = (tmp_path / "out.onnx").rename(tmp_path / "in.onnx")
        before = everything(tmp_path)
        with pytest.raises(ModelError, match=data.name):
            write(read(renamed), tmp_path / "out.onnx", source=renamed)
        assert everything(tmp_path) == before


def test_link_at_the_target_is_replaced(rich, tmp_path):
    (tmp_path / "other").write_text("other")
    (tmp_path / "out.onnx").symlink_to("other")
    write(read(rich), tmp_path / "out.onnx", source=rich)
    assert (tmp_path / "other").read_text() == "other"
    assert not (tmp_path / "out.onnx").is_symlink()


class TestFailure:
    """A failed write leaves the folder unchanged."""

    @pytest.fixture
    def target(self, external, tmp_path):
        """Return an existing file with external data of its own."""
        path = tmp_path / "out" / "out.onnx"
        write(read(external), path, source=external)
        (tmp_path / "w.bin").write_bytes(bytes(8) + (WEIGHTS + 1).tobytes())
        return path

    def test_a_check_that_fails_stops_the_writing(self, external, target, tmp_path):
        before = everything(tmp_path)

        def check(path):
            assert path.name == target.name
            session = ort.InferenceSession(path)
            (y,) = session.run(None, {"x": np.zeros(4, np.float32)})
            np.testing.assert_array_equal(y, WEIGHTS + 1)
            raise ModelError("not this one")

        with pytest.raises(ModelError, match="not this one"):
            write(read(external), target, source=external, check=check)
        assert everything(tmp_path) == before
        assert {path.name for path in target.parent.iterdir()} == {
            path.name for path in before if path.parent == target.parent
        }

    def test_so_do_data_that_are_gone(self, external, target, tmp_path):
        model = read(external)
        (tmp_path / "w.bin").unlink()
        before = everything(tmp_path)
        with pytest.raises(NotWrittenError, match="No such file"):
            write(model, target, source=external)
        assert everything(tmp_path) == before

    def test_folder_at_the_target_removes_placed_data(self, external, tmp_path):
        target = tmp_path / "out" / "out.onnx"
        with pytest.raises(NotWrittenError, match=r"out\.onnx: cannot be written"):
            write(read(external), target, source=external, check=lambda _: target.mkdir())
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.parametrize("name", ["", ".", "out"])
    def test_folder_named_instead_of_file_fails(self, rich, tmp_path, name):
        (tmp_path / "out").mkdir()
        with contextlib.chdir(tmp_path), pytest.raises(ModelError, match="is a folder"):
            write(read(rich), Path(name), source=rich)
        assert {*tmp_path.iterdir()} == {rich, tmp_path / "out"}

    def test_file_in_place_of_folder_fails(self, rich, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(NotWrittenError, match="cannot be written"):
            write(read(rich), tmp_path / "file" / "out.onnx", source=rich)

    def test_full_disk_leaves_all_unchanged(self, external, target, tmp_path):
        before = everything(tmp_path)
        program = """
            import resource, sys
            from pathlib import Path
            from gatewave.graphs.errors import NotWrittenError
            from gatewave.graphs.files.files import read, write
            source, target = map(Path, sys.argv[1:])
            model = read(source)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            try:
                write(model, target, source=source)
            except NotWrittenError as error:
                print(error)
        """
        command = [sys.executable, "-c", textwrap.dedent(program), external, target]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        assert "cannot be written: File too large" in ended.stdout
        assert everything(tmp_path) == before

    def test_old_model_stays_whole_until_replaced(self, external, target):
        old = normal(target)

        def check(path):
            assert normal(target) == old
            assert normal(path) != old

        write(read(external), target, source=external, check=check)
        assert normal(target) == normal(external)
        assert len(list(target.parent.glob("*.data"))) == 2
