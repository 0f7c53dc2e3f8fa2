"""The artifacts folder: what is wrong in it is said before anything is served."""

import json
import shutil

import onnx
import pytest

from service.catalogue import METADATA_KEY, Catalogue, artifact_paths
from service.engine import Engine
from service.errors import ArtifactInvalid


@pytest.fixture(scope="module")
def engine():
    return Engine.start("cpu", threads=1)


@pytest.fixture
def folder(artifacts, tmp_path):
    """A folder of sinc's value in float32 alone, to be tampered with."""
    shutil.copy(artifacts / "sinc.value.float32.onnx", tmp_path)
    return tmp_path


def tampered(folder, change):
    (path,) = folder.glob("*.onnx")
    model = onnx.load(path)
    (entry,) = [p for p in model.metadata_props if p.key == METADATA_KEY]
    document = json.loads(entry.value)
    change(document)
    entry.value = json.dumps(document)
    onnx.save(model, path)


def test_it_holds_what_was_exported_and_no_more(folder, engine):
    (entry,) = Catalogue.open(folder, engine)
    assert entry.name == "sinc"
    assert entry.functions[0].dtypes == ["float32"]
    assert entry.functions[0].outputs == ["y"]


def test_a_decomposed_artifact_serves_where_it_is_alone(artifacts, tmp_path, engine):
    shutil.copy(artifacts / "glu.value.float32.decomposed.onnx", tmp_path)
    assert [entry.name for entry in Catalogue.open(tmp_path, engine)] == ["glu"]


def test_the_form_with_the_function_is_preferred(artifacts):
    assert not [path for path in artifact_paths(artifacts) if "decomposed" in path.name]


def test_two_files_of_one_graph_are_refused(folder, engine):
    (path,) = folder.glob("*.onnx")
    shutil.copy(path, folder / "copy.onnx")
    with pytest.raises(ArtifactInvalid, match="keep one"):
        Catalogue.open(folder, engine)


def test_an_empty_folder_is_refused(tmp_path, engine):
    with pytest.raises(ArtifactInvalid, match="holds no artifacts"):
        Catalogue.open(tmp_path, engine)


def test_a_truncated_file_is_refused_by_name(folder, engine):
    (path,) = folder.glob("*.onnx")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactInvalid, match=r"sinc\.value\.float32\.onnx"):
        Catalogue.open(folder, engine)


def test_a_model_of_others_is_refused(folder, engine):
    (path,) = folder.glob("*.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ArtifactInvalid, match="no record in its metadata"):
        Catalogue.open(folder, engine)


def test_another_schema_is_refused(folder, engine):
    tampered(folder, lambda document: document.update(schema=2))
    with pytest.raises(ArtifactInvalid, match="export again"):
        Catalogue.open(folder, engine)


def test_an_answer_unlike_the_example_is_refused(folder, engine):
    def change(document):
        document["example"]["outputs"]["y"][3] += 1e-5

    tampered(folder, change)
    with pytest.raises(ArtifactInvalid, match="y of its example is"):
        Catalogue.open(folder, engine)


def test_a_nan_in_the_answer_is_refused(folder, engine):
    def change(document):
        document["example"]["inputs"]["x"][0] = float("nan")

    tampered(folder, change)
    with pytest.raises(ArtifactInvalid):
        Catalogue.open(folder, engine)
