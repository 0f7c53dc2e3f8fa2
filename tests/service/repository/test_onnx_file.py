"""Reading of untrusted ONNX files."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import external, helper, lying_elsewhere, model, nested, numpy_helper, port, unary

from gatewave.service.codecs.wire import MalformedError, WireReader
from gatewave.service.errors import ModelRefused
from gatewave.service.repository.onnx_file import NESTED, parse, parse_bytes


def tensor(location):
    return lying_elsewhere(numpy_helper.from_array(np.ones(2, np.float32), location), location)


def sparse(location):
    values, indices = tensor(location), numpy_helper.from_array(np.array([0, 1]), "indices")
    return helper.make_sparse_tensor(values, indices, [4])


def subgraph(location):
    node = helper.make_node("Identity", ["w"], ["z"])
    return helper.make_graph([node], "inner", [], [port("z")], [tensor(location)])


def locations(made):
    return {external.location for external in parse_bytes(made.SerializeToString()).externals}


def test_all_fields_that_lead_to_tensors_are_followed():
    """The fields are derived from onnx.proto, which includes new ones."""

    def leads(descriptor, seen=()):
        if descriptor.name == "TensorProto":
            return True
        return descriptor.name not in seen and any(
            field.message_type and leads(field.message_type, (*seen, descriptor.name))
            for field in descriptor.fields
        )

    followed, to_follow = {}, [onnx.ModelProto.DESCRIPTOR]
    while to_follow:
        descriptor = to_follow.pop()
        if descriptor.name in followed:
            continue
        nested = [f for f in descriptor.fields if f.message_type and leads(f.message_type)]
        followed[descriptor.name] = {field.number: field.message_type.name for field in nested}
        to_follow += [field.message_type for field in nested]
    followed["TensorProto"] = {13: "StringStringEntryProto"}
    assert followed == NESTED


def test_external_data_of_every_tensor_is_found():
    nodes = [
        helper.make_node("Constant", [], ["a"], value=tensor("constant")),
        helper.make_node("Constant", [], ["b"], sparse_value=sparse("sparse")),
        helper.make_node("Op", [], ["c"], domain="d", many=[tensor("many")]),
        helper.make_node("Op", [], ["d"], domain="d", sparse=[sparse("many-sparse")]),
        helper.make_node("If", ["x"], ["y"], then_branch=subgraph("branch")),
        helper.make_node("Op", [], ["e"], domain="d", graphs=[subgraph("graphs")]),
    ]
    inner = helper.make_node("Constant", [], ["o"], value=tensor("function"))
    function = helper.make_function("d", "F", [], ["o"], [inner], [helper.make_opsetid("", 17)])
    function.attribute_proto.add(name="t", type=onnx.AttributeProto.TENSOR).t.CopyFrom(
        tensor("default")
    )
    made = model(nodes, [port("x")], [port("y")], [tensor("initializer")], [function])
    made.graph.sparse_initializer.append(sparse("sparse-initializer"))
    made.training_info.add().algorithm.CopyFrom(subgraph("training"))
    assert locations(made) == {
        *("constant", "sparse", "many", "many-sparse", "branch", "graphs", "function"),
        *("default", "initializer", "sparse-initializer", "training"),
    }


def test_external_data_without_its_flag_is_found():
    made = external("hidden")
    made.graph.initializer[0].data_location = TensorProto.DEFAULT
    assert locations(made) == {"hidden"}


def test_a_second_graph_in_a_file_is_read():
    """Protocol Buffers merge fields that occur twice."""
    both = unary("Neg").SerializeToString() + external("second").SerializeToString()
    assert {e.location for e in parse_bytes(both).externals} == {"second"}


def test_scalars_are_told_from_unknown_shapes():
    made = model(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        [port("a", []), port("b", None)],
        [port("c", None)],
    )
    assert parse_bytes(made.SerializeToString()).shaped == {"a"}


def test_truncated_files_are_read_or_refused():
    whole = external("weights").SerializeToString()
    for end in range(len(whole)):
        try:
            parse_bytes(whole[:end])
        except (MalformedError, UnicodeDecodeError):
            continue


def test_files_with_changed_bytes_are_read_or_refused():
    source = np.random.default_rng(0)
    whole = bytearray(external("weights").SerializeToString())
    for _ in range(3000):
        changed = bytearray(whole)
        for place in source.integers(0, len(whole), 3):
            changed[place] = source.integers(0, 256)
        try:
            parse_bytes(bytes(changed))
        except (MalformedError, UnicodeDecodeError):
            continue


def test_nesting_has_an_end():
    parse_bytes(nested(30))
    with pytest.raises(MalformedError, match="nested deeper"):
        parse_bytes(nested(5000))


def test_fields_have_a_most():
    with pytest.raises(MalformedError, match="too many fields"):
        list(WireReader(b"\x08\x00" * 11, most_fields=10).fields((0, 22)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x3a\xff\xff\xff\xff\x0f", "cut off"),
        (b"\x3a", "cut off"),
        (b"\x00\x00", "no field"),
        (b"\x0b\x0c", "no kind"),
        (b"\x08" + b"\xff" * 10, "does not end"),
        (b"\xff\xff\xff\xff\xff\xff\x01\x00", "no field"),
        (b"\x09\x00", "cut off"),
        (b"\x08\x07", "no graph"),
    ],
)
def test_what_is_no_message_is_refused(data, why):
    with pytest.raises(MalformedError, match=why):
        parse_bytes(data)


def test_a_file_is_refused_by_its_name():
    with pytest.raises(ModelRefused, match=r"model\.onnx is not an ONNX file"):
        parse(b"no model")


def test_a_location_that_is_no_text_is_refused():
    raw = external("weights").SerializeToString().replace(b"weights", b"we\xff\xfehts")
    with pytest.raises(ModelRefused, match="not an ONNX file"):
        parse(raw)


@pytest.mark.parametrize("offset", ["-1", "1e3", "", "9" * 30, "٣"])
def test_an_offset_that_is_no_number_is_refused(offset):
    with pytest.raises(MalformedError, match="not a non-negative integer"):
        parse_bytes(external("weights", offset=offset).SerializeToString())


def test_two_locations_of_one_tensor_are_refused():
    made = external("first")
    made.graph.initializer[0].external_data.add(key="location", value="second")
    with pytest.raises(MalformedError, match="twice"):
        parse_bytes(made.SerializeToString())
