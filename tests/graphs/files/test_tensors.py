"""Tensors that contradict their declaration: they are rejected."""

import onnx
import pytest
from onnx import TensorProto

from gatewave.graphs.errors import ModelError
from gatewave.graphs.files.files import read

HEADER = '<ir_version: 10, opset_import: ["": 20]>'


def refused(path):
    """Return the error message for the file ``path``, without the path."""
    with pytest.raises(ModelError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


TENSORS = {
    "no type": ({"data_type": 0, "dims": [0]}, "0 is no element type"),
    "a type of the future": ({"data_type": 99, "dims": [0]}, "99 is no element type"),
    "a negative dimension": ({"dims": [-4]}, "a dimension is negative: [-4]"),
    "axes without end": ({"dims": [1] * 100_000}, "has 100000 axes"),
    "2⁴⁰ floats, and none there": ({"dims": [2**40]}, "takes 1099511627776 numbers"),
    "a size that overflows to nothing": (
        {"dims": [2**32, 2**32], "raw_data": b""},
        "takes 73786976294838206464 bytes, got 0",
    ),
    "bytes missing": ({"dims": [3], "raw_data": bytes(11)}, "takes 12 bytes, got 11"),
    "bytes left": ({"dims": [3], "raw_data": bytes(13)}, "takes 12 bytes, got 13"),
    "numbers missing": ({"dims": [3], "float_data": [1.0]}, "takes 3 numbers in float_data, got 1"),
    "numbers elsewhere": ({"dims": [1], "int64_data": [1]}, "belong into float_data, got int64"),
    "data twice": (
        {"dims": [1], "float_data": [1.0], "raw_data": bytes(4)},
        "has data in raw_data and in float_data",
    ),
    "strings in bytes": ({"data_type": 8, "dims": [1], "raw_data": b"a"}, "cannot be in raw_data"),
    "strings missing": ({"data_type": 8, "dims": [2], "string_data": [b"a"]}, "got 1"),
    "half of a complex number": ({"data_type": 14, "dims": [1], "float_data": [1.0]}, "takes 2"),
    "packed numbers missing": ({"data_type": 22, "dims": [5], "int32_data": [1, 2]}, "takes 3"),
    "packed bytes left": ({"data_type": 22, "dims": [5], "raw_data": bytes(5)}, "takes 3 bytes"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_of_wrong_size_are_refused(saved, weighted, case):
    fields, said = TENSORS[case]
    answer = refused(saved(weighted(**fields)))
    assert answer.startswith("tensor 'w': ")
    assert said in answer


def test_tensors_in_attributes_are_checked_wherever_they_are(saved):
    model = onnx.parser.parse_model(
        f"{HEADER} g (float[n] x) => (float[n] y) {{ c = Constant <value = bool {{1}}> () "
        "y = If (c) <then_branch = t () => (float a) { a = Constant <value = float {1.0}> () },"
        " else_branch = e () => (float b) { b = Constant <value = float {2.0}> () }> }"
    )
    inner = model.graph.node[1].attribute[0].g.node[0].attribute[0].t
    inner.dims.append(2**40)
    assert refused(saved(model)).startswith("attribute 'value' of node 0 (Constant): FLOAT")


def test_sparse_tensor_with_wrong_indices_is_refused(saved, sparse):
    sparse.graph.sparse_initializer[0].indices.dims[0] = 1
    sparse.graph.sparse_initializer[0].indices.raw_data = bytes(8)
    assert "expected indices of shape [2] or [2, 1]" in refused(saved(sparse))


def test_message_names_the_element_type(saved, weighted):
    said = refused(saved(weighted(dims=[2], raw_data=bytes(1), data_type=TensorProto.FLOAT16)))
    assert "FLOAT16 of shape [2] takes 4 bytes, got 1" in said
