"""The files of a version are read once, and the tried bytes are opened."""

import os

import numpy as np
import pytest
from onnx_models import (
    external,
    helper,
    load,
    lying_elsewhere,
    model,
    numpy_helper,
    port,
    put,
    scaled,
)

from gatewave.service.errors import ModelRefused
from gatewave.service.repository.files import FilesChanged, read_tried, read_version

MOST = 1 << 30
W = np.array([2.0, 3.0], np.float32)
X = np.float32([[1.0, 2.0]])


def weight(location="weights", **more):
    return lying_elsewhere(numpy_helper.from_array(W, "w"), location, **more)


def _in_a_subgraph(tensor):
    scale = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["scaled"])], "then", [], [port("scaled")], [tensor]
    )
    keep = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["kept"])], "else", [], [port("kept")]
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["on"], to=9),
        helper.make_node("If", ["on"], ["y"], then_branch=scale, else_branch=keep),
    ]
    return model(nodes, [port("x")], [port("y")])


def _scaling(tensor):
    return [
        helper.make_node("Constant", [], ["w"], value=tensor),
        helper.make_node("Mul", ["x", "w"], ["y"]),
    ]


def _in_an_attribute(tensor):
    return model(_scaling(tensor), [port("x")], [port("y")])


def _in_a_function(tensor):
    body = helper.make_function(
        "ours", "Scale", ["x"], ["y"], _scaling(tensor), [helper.make_opsetid("", 17)]
    )
    node = helper.make_node("Scale", ["x"], ["y"], domain="ours")
    opsets = (("", 17), ("ours", 1))
    return model([node], [port("x")], [port("y")], functions=[body], opsets=opsets)


def _sparse(tensor):
    made = model([helper.make_node("Mul", ["x", "w"], ["y"])], [port("x")], [port("y")])
    indices = numpy_helper.from_array(np.array([0, 1]), "indices")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [2]))
    return made


def _in_the_graph(tensor):
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    return model([node], [port("x")], [port("y")], [tensor])


PLACES = [_in_the_graph, _in_a_subgraph, _in_an_attribute, _in_a_function, _sparse]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "more",
    [{"offset": 4, "length": 8}, {"offset": 4}, {"offset": 4, "length": 8, "checksum": "0" * 40}],
)
def test_external_data_is_served_wherever_the_tensor_is(root, engine, place, more):
    path = put(root, "m", "1", place(weight(**more)))
    (path.parent / "weights").write_bytes(bytes(4) + W.tobytes())
    opened = load(path, engine)
    (path.parent / "weights").unlink()
    assert opened.run({"x": X}, ("y",), {})["y"].tolist() == [[2.0, 6.0]]


@pytest.mark.parametrize("place", [_in_the_graph, _in_a_subgraph])
@pytest.mark.parametrize(
    "location", ["./weights", ".//weights", "a/weights", "a//weights", "a/./weights", "gewichte-ä"]
)
def test_locations_are_spelled_as_the_model_has_them(root, engine, place, location):
    path = put(root, "m", "1", place(weight(location)))
    (path.parent / "a").mkdir()
    (path.parent / location).write_bytes(W.tobytes())
    assert load(path, engine).run({"x": X}, ("y",), {})["y"].tolist() == [[2.0, 6.0]]


def test_stale_locations_of_embedded_tensors_are_ignored(root, engine):
    made = _in_an_attribute(weight())
    tensor = made.graph.node[0].attribute[0].t
    tensor.data_location = 0
    tensor.raw_data = W.tobytes()
    path = put(root, "m", "1", made)
    (path.parent / "weights").write_bytes(bytes(8))
    assert load(path, engine).run({"x": X}, ("y",), {})["y"].tolist() == [[2.0, 6.0]]


@pytest.fixture
def version(root):
    path = put(root, "m", "1", external("weights"))
    (path.parent / "weights").write_bytes(W.tobytes())
    return path.parent


def test_tried_files_are_read_again(root, version):
    _, tried = read_version(root, version, MOST)
    again = read_tried(version, tried.digests, MOST)
    assert again.model == tried.model
    assert again.digests == tried.digests
    assert again.data["weights"].tobytes() == W.tobytes()


CHANGES = {
    "overwritten": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "grown": lambda path: os.truncate(path, path.stat().st_size + 1),
    "emptied": lambda path: os.truncate(path, 0),
    "gone": os.unlink,
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", ["model.onnx", "weights"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_files_are_not_opened(root, version, name, change):
    _, tried = read_version(root, version, MOST)
    CHANGES[change](version / name)
    with pytest.raises(FilesChanged, match=f"changed while the model was loaded: {name}"):
        read_tried(version, tried.digests, MOST)


def test_files_too_large_together_are_refused_unread(root, version):
    size = (version / "model.onnx").stat().st_size
    read_version(root, version, size + 8)
    with pytest.raises(ModelRefused, match=r"at most 7 bytes of external data .*, got 8"):
        read_version(root, version, size + 7)
    with pytest.raises(ModelRefused, match=f"expected at most {size - 1} bytes, got {size}"):
        read_version(root, version, size - 1)
    os.truncate(version / "weights", 1 << 39)
    with pytest.raises(ModelRefused, match=f"got {1 << 39}"):
        read_version(root, version, MOST)


def test_more_files_than_a_model_has_are_refused(root, monkeypatch):
    monkeypatch.setattr("gatewave.service.repository.files.MAX_LOCATIONS", 2)
    made = scaled(2)
    made.graph.initializer.extend(weight(f"w{number}") for number in range(3))
    folder = put(root, "m", "1", made).parent
    with pytest.raises(ModelRefused, match="expected at most 2 files with tensors, got 3"):
        read_version(root, folder, MOST)
