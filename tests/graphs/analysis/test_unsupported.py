"""Content that `onnx_ir` cannot represent: it is restored in the written model."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import AttributeProto, TensorProto, TypeProto, helper

from gatewave.graphs.analysis.unsupported import MARK, SparseInitializer
from gatewave.graphs.errors import ModelError
from gatewave.graphs.files.files import read, write


@pytest.fixture
def rewritten(saved, tmp_path):
    """Return a function that reads and writes a model, and rejects remaining placeholders."""

    def through(model):
        path = tmp_path / "written.onnx"
        write(read(saved(model)), path, source=None)
        content = path.read_bytes()
        assert MARK.strip().encode() not in content
        return onnx.ModelProto.FromString(content)

    return through


def test_sparse_initializer_survives_a_round_trip(sparse, saved, rewritten):
    value = read(saved(sparse)).graph.initializers["w"]
    assert (value.dtype, value.shape) == (ir.DataType.FLOAT, ir.Shape([5]))
    assert isinstance(value.const_value, SparseInitializer)
    with pytest.raises(ModelError, match="tensor 'w' is sparse"):
        value.const_value.numpy()
    written = rewritten(sparse).graph
    assert written.sparse_initializer == sparse.graph.sparse_initializer
    assert not written.initializer


def test_a_sparse_initializer_can_be_vast(sparse, rewritten):
    sparse.graph.sparse_initializer[0].dims[0] = 2**50
    assert rewritten(sparse).graph.sparse_initializer == sparse.graph.sparse_initializer


def test_sparse_initializer_keeps_its_new_name(sparse, saved, tmp_path):
    model = read(saved(sparse))
    model.graph.initializers["w"].name = "renamed"
    write(model, tmp_path / "out.onnx", source=None)
    written = onnx.load(tmp_path / "out.onnx").graph
    assert written.sparse_initializer[0].values.name == written.node[0].input[1] == "renamed"


def test_in_bodies_too(sparse, rewritten):
    body = sparse.graph
    branch = onnx.GraphProto(name="b", node=body.node, output=body.output)
    branch.sparse_initializer.extend(body.sparse_initializer)
    outer = helper.make_graph(
        [helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)],
        "g",
        [*body.input, helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [5])],
    )
    model = helper.make_model(outer, opset_imports=sparse.opset_import, ir_version=10)
    branches = [attribute.g for attribute in rewritten(model).graph.node[0].attribute]
    assert [b.sparse_initializer for b in branches] == [body.sparse_initializer] * 2


ATTRIBUTES = {
    "a sparse constant": lambda sparse: helper.make_attribute("a", sparse),
    "several of them": lambda sparse: helper.make_attribute("a", [sparse, sparse]),
    "a map": lambda _: helper.make_attribute("a", map_type()),
    "strings that are no text": lambda _: AttributeProto(
        name="a", type=AttributeProto.STRINGS, strings=[b"text", b"\xff\xfe"]
    ),
    "a string that is no text": lambda _: AttributeProto(
        name="a", type=AttributeProto.STRING, s=b"\xff\xfe"
    ),
}


def map_type():
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    return TypeProto(map_type=TypeProto.Map(key_type=TensorProto.INT64, value_type=value))


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_attributes_come_back(sparse, weighted, rewritten, case):
    model = weighted(dims=[1], float_data=[1.0])
    attribute = ATTRIBUTES[case](sparse.graph.sparse_initializer[0])
    model.graph.node[0].attribute.append(attribute)
    assert rewritten(model).graph.node[0].attribute == [attribute]


@pytest.mark.parametrize(
    "type_",
    [
        map_type(),
        TypeProto(sequence_type=TypeProto.Sequence(elem_type=map_type())),
        TypeProto(opaque_type=TypeProto.Opaque(domain="ai.acme", name="box")),
        TypeProto(sequence_type=TypeProto.Sequence()),
    ],
    ids=["map", "list of maps", "opaque", "list of nothing"],
)
def test_types_come_back(weighted, rewritten, saved, type_):
    model = weighted(dims=[1], float_data=[1.0])
    model.graph.node.add(op_type="ZipMap", domain="ai.onnx.ml", input=["y"], output=["m"])
    model.graph.output.add(name="m").type.CopyFrom(type_)
    assert read(saved(model)).graph.outputs[1].type is None
    assert rewritten(model).graph.output == model.graph.output


def test_what_a_model_says_about_training_comes_back(weighted, rewritten):
    model = weighted(dims=[1], float_data=[1.0])
    training = model.training_info.add()
    training.algorithm.CopyFrom(model.graph)
    training.update_binding.add(key="w", value="y")
    assert rewritten(model).training_info == model.training_info


def test_training_information_with_data_elsewhere_is_refused(weighted, saved):
    model = weighted(dims=[1], float_data=[1.0])
    model.training_info.add().algorithm.CopyFrom(model.graph)
    tensor = model.training_info[0].algorithm.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="not supported in training information"):
        read(saved(model))


def test_sparse_tensors_with_data_elsewhere_are_refused(sparse, saved):
    sparse.graph.sparse_initializer[0].values.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="its values are external data, which is not supported"):
        read(saved(sparse))


def test_stand_ins_do_not_hinder_shape_arithmetic(sparse, saved):
    sparse.graph.initializer.add(name="c", data_type=1, dims=[1], float_data=[2.0])
    model = read(saved(sparse))
    np.testing.assert_array_equal(model.graph.initializers["c"].const_value.numpy(), [2.0])
