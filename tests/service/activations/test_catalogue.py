"""Folder of artifacts: its errors are reported before the service starts."""

import json
import os
import shutil
import socket

import numpy as np
import onnx
import pytest

from gatewave.service.activations.artifact import MANIFEST, METADATA_KEY, artifact_paths
from gatewave.service.activations.catalogue import Catalogue
from gatewave.service.codecs.datatypes import NUMPY
from gatewave.service.errors import ArtifactInvalid
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import SLICE

RTOL = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6, "float64": 1e-14}


@pytest.fixture(scope="module")
def engine():
    return Engine.start("cpu", threads=1)


@pytest.fixture(scope="module", params=["function", "auto"])
def by_name(request, artifacts):
    """Return the graphs by name, computed by their function bodies or by the available kernels."""
    catalogue = Catalogue.open(artifacts, Engine.start("cpu", 1, kernels=request.param))
    return {graph.name: graph for graph in catalogue.graphs()}


@pytest.fixture(params=["sinc.grad", "swiglu", "swiglu.vjp", "swish.bfloat16", "geglu.float64"])
def graph(request, by_name):
    return by_name[request.param]


@pytest.fixture
def folder(artifacts, tmp_path):
    """Return a folder with only the float32 value of sinc, for changes by the test."""
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


def bound(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


IRREGULAR = {
    "pipe": (os.mkfifo, "expected a regular file"),
    "folder": (lambda path: path.mkdir(), "expected a regular file, got a folder"),
    "device": (lambda path: path.symlink_to("/dev/null"), "expected a regular file"),
    "socket": (bound, "cannot be read"),
    "nowhere": (lambda path: path.symlink_to("gone.onnx"), "cannot be read: No such file"),
}


def test_a_file_that_the_manifest_lists_is_missed_by_name(folder, engine):
    lost = ["sinc.grad.float32.onnx", "sinc.svg"]
    text = json.dumps({"files": [*lost, *(path.name for path in folder.iterdir())]})
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ArtifactInvalid, match=r"sinc\.grad\.float32\.onnx is missing, and 1 more"):
        Catalogue.open(folder, engine)
    for name in lost:
        (folder / name).write_bytes((folder / "sinc.value.float32.onnx").read_bytes())
    with pytest.raises(ArtifactInvalid, match="hold the same graph"):
        Catalogue.open(folder, engine)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 1}', '{"files": [1]}'])
def test_a_manifest_that_cannot_be_read_is_refused(folder, engine, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ArtifactInvalid, match="expected an object with a list of files"):
        Catalogue.open(folder, engine)


@pytest.mark.parametrize("kind", IRREGULAR)
def test_irregular_files_are_refused_by_name(folder, engine, kind):
    make, said = IRREGULAR[kind]
    path = folder / "x.onnx"
    make(path)
    with pytest.raises(ArtifactInvalid, match=said) as refused:
        Catalogue.open(folder, engine)
    assert str(path) in str(refused.value)


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


def test_many_elements_give_what_each_gives(graph):
    length = 2 * SLICE + 5
    chance = np.random.default_rng(0)
    kind = NUMPY[graph.dtype]
    inputs = {name: chance.normal(0, 4, length).astype(kind) for name in graph.input_names}
    # Where one slice ends and the next begins, and where the last one is short.
    for edge in (SLICE, 2 * SLICE, length):
        part = slice(edge - 40, edge + 40)
        few = graph.run({n: a[part] for n, a in inputs.items()}, graph.output_names, {})
        many = graph.run(inputs, graph.output_names, {})
        for name in graph.output_names:
            np.testing.assert_allclose(
                many[name][part].astype(float), few[name].astype(float), rtol=RTOL[graph.dtype]
            )


def test_results_over_the_inputs_are_the_results(graph):
    length = 2 * SLICE + 5
    chance = np.random.default_rng(0)
    kind = NUMPY[graph.dtype]
    inputs = {name: chance.normal(0, 4, length).astype(kind) for name in graph.input_names}
    apart = graph.run(inputs, graph.output_names, {})
    over = graph.run(inputs, graph.output_names, {}, reuse_inputs=True)
    for name in graph.output_names:
        assert over[name].tobytes() == apart[name].tobytes()
    assert np.shares_memory(over[graph.output_names[0]], inputs[graph.input_names[0]])


def test_what_must_not_be_written_to_is_not(graph):
    inputs = {name: np.zeros(2 * SLICE, NUMPY[graph.dtype]) for name in graph.input_names}
    for array in inputs.values():
        array.setflags(write=False)
    graph.run(inputs, graph.output_names, {}, reuse_inputs=True)
    assert not any(array.any() for array in inputs.values())
