"""Written models: equal to the model that was read, in the same bytes each time, at any size."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_files import normal

from gatewave.graphs.files import storage
from gatewave.graphs.files.files import read, write

WEIGHTS = np.arange(4, dtype=np.float32)
RICH = """
<ir_version: 10, opset_import: ["": 20, "f": 1], producer_name: "torch",
 producer_version: "2.13", domain: "ai.acme", model_version: 7, doc_string: "about the model",
 metadata_props: ["license": "MIT", "a": "b"]>
main (float[n, 4] x, bool c) => (float[n, 4] y, float[n, 4] z)
<float[4] w = {1, 2, 3, 4}, float[n, 4] a>
{
    ["the sum"] a = Add(x, w)
    [branch] y = If (c) <
        then_branch = t () => (float[n, 4] b) { b = f.F <alpha: float = 1.5> (a) },
        else_branch = e () => (float[n, 4] d) { d = com.acme.Op <modes = ["x", "y"]> (a) }
    >
    z, = Dropout(a, , )
}
<domain: "f", opset_import: ["": 20], doc_string: "about F">
F <alpha, beta: float = 0.5> (p) => (q) { q = Elu <alpha: float = @alpha> (p) }
"""


@pytest.fixture
def rich(saved):
    """Return a model with all kinds of metadata."""
    model = onnx.parser.parse_model(RICH)
    model.graph.doc_string = "about the graph"
    model.graph.node[0].doc_string = "about the node"
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="layer.0")
    model.graph.value_info[0].metadata_props.add(key="k", value="v")
    model.graph.initializer[0].doc_string = "about the tensor"
    annotation = model.graph.quantization_annotation.add(tensor_name="a")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    return saved(model)


def everything(folder):
    """Return the files in ``folder`` with their contents."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_written_as_it_was_read(rich, tmp_path):
    written = tmp_path / "new" / "folder" / "out.onnx"
    write(read(rich), written, source=rich)
    assert normal(written) == normal(rich)
    assert [path.name for path in written.parent.iterdir()] == ["out.onnx"]


def test_so_are_the_models_that_come_with_onnx(tmp_path):
    paths = [*Path(onnx.__file__).parent.glob("backend/test/data/**/*.onnx")]
    assert len(paths) > 100
    for source in paths:
        write(read(source), tmp_path / "out.onnx", source=source)
        assert normal(tmp_path / "out.onnx") == normal(source), source


def test_the_same_model_gives_the_same_bytes(rich, external, tmp_path):
    for source in (rich, external):
        for folder in ("one", "two"):
            write(read(source), tmp_path / folder / "out.onnx", source=source)
    one, two = (everything(tmp_path / folder) for folder in ("one", "two"))
    assert {p.name: content for p, content in one.items()} == {
        p.name: content for p, content in two.items()
    }


def test_the_model_in_memory_stays_as_it_is(external, tmp_path):
    model = read(external)
    before = model.graph.initializers["w"].const_value
    write(model, tmp_path / "out.onnx", source=external)
    assert model.graph.initializers["w"].const_value is before
    assert before.location == "w.bin"


def test_external_data_stay_external_and_run(external, tmp_path):
    written = tmp_path / "elsewhere" / "out.onnx"
    write(read(external), written, source=external)
    (data,) = written.parent.glob("out.onnx.*.data")
    assert data.read_bytes() == WEIGHTS.tobytes()
    assert normal(written) == normal(external)
    session = ort.InferenceSession(written)
    (y,) = session.run(None, {"x": np.ones(4, np.float32)})
    np.testing.assert_array_equal(y, WEIGHTS + 1)


def test_zeros_at_the_end_are_written_too(external, tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(24))
    write(read(external), tmp_path / "out.onnx", source=external)
    (data,) = tmp_path.glob("out.onnx.*.data")
    assert data.read_bytes() == bytes(16)


def test_tensors_that_share_their_bytes_share_them_still(saved, outside, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = outside(location="w.bin")
    twin = model.graph.initializer.add()
    twin.CopyFrom(model.graph.initializer[0])
    twin.name = "square"
    twin.dims[:] = [2, 2]
    source = saved(model)
    written = tmp_path / "out.onnx"
    write(read(source), written, source=source)
    assert normal(written) == normal(source)
    (data,) = tmp_path.glob("*.data")
    assert data.stat().st_size == 16


def test_each_tensor_starts_at_a_page(saved, outside, tmp_path):
    (tmp_path / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    model = outside(location="w.bin", offset=0, length=16)
    second = outside(location="w.bin", offset=16, length=16).graph.initializer[0]
    second.name = "v"
    model.graph.initializer.append(second)
    source = saved(model)
    write(read(source), tmp_path / "out.onnx", source=source)
    assert normal(tmp_path / "out.onnx") == normal(source)
    tensors = onnx.load(tmp_path / "out.onnx", load_external_data=False).graph.initializer
    assert [entry.value for t in tensors for entry in t.external_data if entry.key == "offset"] == [
        "0",
        "4096",
    ]


def test_external_data_of_bodies_and_functions(saved, tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20, "f": 1]> g (bool c) => (float[4] y, float[4] z) {'
        "z = f.F() y = If (c) <then_branch = t () => (float[4] a) "
        "{ a = Constant <value = float[1] {1.0}> () }, else_branch = e () => (float[4] b) "
        "{ b = Constant <value = float[4] {1.0, 1.0, 1.0, 1.0}> () }> } "
        '<domain: "f", opset_import: ["": 20]> F () => (a) '
        "{ a = Constant <value = float[1] {1.0}> () }"
    )
    bodies = (model.graph.node[1].attribute[0].g, model.functions[0])
    for body, name in zip(bodies, ("one.bin", "two.bin"), strict=True):
        (tmp_path / name).write_bytes((WEIGHTS + len(name)).tobytes())
        tensor = body.node[0].attribute[0].t
        tensor.CopyFrom(TensorProto(data_type=1, dims=[4], data_location=TensorProto.EXTERNAL))
        tensor.external_data.add(key="location", value=name)
    source = saved(model)
    written = tmp_path / "elsewhere" / "out.onnx"
    write(read(source), written, source=source)
    assert normal(written) == normal(source)


def test_so_do_data_in_lists_of_tensors(saved, outside, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = outside(location="w.bin")
    here = numpy_helper.from_array(WEIGHTS + 1)
    tensors = [here, model.graph.initializer[0], here]
    model.graph.node.add(op_type="Op", domain="ai.acme", output=["z"]).attribute.append(
        helper.make_attribute("tensors", tensors)
    )
    source, written = saved(model), tmp_path / "elsewhere" / "out.onnx"
    made = read(source)
    before = made.graph.node(1).attributes["tensors"]
    write(made, written, source=source)
    assert normal(written) == normal(source)
    assert made.graph.node(1).attributes["tensors"] is before


def test_tensors_that_a_message_cannot_hold_become_external(saved, weighted, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MAX_INLINE", 10_000)
    model = weighted(dims=[4000], raw_data=np.arange(4000, dtype=np.float32).tobytes())
    model.graph.initializer.add(name="small", data_type=1, dims=[1], float_data=[1.0])
    model.graph.initializer.add(name="words", data_type=8, dims=[1], string_data=[b"a" * 5000])
    source = saved(model)
    written = tmp_path / "out" / "out.onnx"
    write(read(source), written, source=source)
    locations = {
        tensor.name: tensor.data_location == TensorProto.EXTERNAL
        for tensor in onnx.load(written, load_external_data=False).graph.initializer
    }
    assert locations == {"w": True, "small": False, "words": False}
    whole = onnx.load(written).graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(whole), np.arange(4000))


HUGE = """
    import resource, sys
    from pathlib import Path
    from gatewave.graphs.files.files import read, write
    source, target = map(Path, sys.argv[1:])
    model = read(source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write(model, target, source=source)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_data_over_2_gib_are_copied_in_pieces(saved, tmp_path):
    size = 2**31 + 2**20
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size)  # zeros that take no room
        file.seek(size - 4)
        file.write(np.float32(7).tobytes())
    if (tmp_path / "w.bin").stat().st_blocks * 512 > size // 2:
        pytest.skip("this file system keeps no sparse files")
    source, target = saved(huge(size)), tmp_path / "out" / "out.onnx"
    command = [sys.executable, "-c", textwrap.dedent(HUGE), source, target]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(ended.stdout) < 100_000  # KiB
    tensor = read(target).graph.initializers["w"].const_value
    assert tensor.nbytes == size
    assert tensor.numpy()[-1] == 7
    (data,) = target.parent.glob("*.data")
    assert data.stat().st_blocks * 512 < 2**24


def huge(size):
    tensor = TensorProto(
        name="w", data_type=1, dims=[size // 4], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="w.bin")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size // 4])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_written_files_follow_the_umask(external, tmp_path):
    before = os.umask(0o027)
    try:
        write(read(external), tmp_path / "out" / "out.onnx", source=external)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}
