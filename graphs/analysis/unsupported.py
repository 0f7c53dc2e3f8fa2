"""Encoding of parts that `onnx_ir` does not support, so that a rewritten model keeps them.

`onnx_ir` drops sparse initializers and training information, and refuses sparse attributes, maps
(which classifiers from scikit-learn give), opaque types, and lists of strings that are not text.
Activations use no such parts. On reading

- a sparse initializer becomes a `SparseInitializer`, of the dense type and shape;
- such an attribute becomes a string;
- such a type becomes unknown, and an entry of the value's ``metadata_props``;
- training information moves to the model's ``meta``;

and writing restores each of them.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NoReturn

import onnx
import onnx_ir as ir
from onnx_ir.serde import TensorProtoTensor

from gatewave.graphs.analysis import protos
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.errors import ModelError

MARK = f"encoded {secrets.token_hex(16)} "
"""Mark of encoded parts. It differs in every process, so no file can hold it."""

TRAINING = "training_info"

FIELDS: Mapping[str, onnx.AttributeProto.AttributeType] = MappingProxyType(
    {
        "f": onnx.AttributeProto.FLOAT,
        "i": onnx.AttributeProto.INT,
        "s": onnx.AttributeProto.STRING,
        "t": onnx.AttributeProto.TENSOR,
        "g": onnx.AttributeProto.GRAPH,
        "floats": onnx.AttributeProto.FLOATS,
        "ints": onnx.AttributeProto.INTS,
        "strings": onnx.AttributeProto.STRINGS,
    }
)

UNSUPPORTED = (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS)


class SparseInitializer(TensorProtoTensor):
    """A sparse tensor that is nowhere made dense: it may be vastly larger then."""

    def numpy(self) -> NoReturn:
        raise ModelError(f"tensor {self.name!r} is sparse, and its values are not looked at")

    def tobytes(self) -> NoReturn:
        self.numpy()


def encode_unsupported(model: onnx.ModelProto) -> None:
    """Encode, in place, all parts of ``model`` that `onnx_ir` would drop or refuse.

    Raises:
        ModelError: The type of an attribute is ambiguous.
    """
    for body in list(protos.bodies(model)):
        for attribute in protos.attributes(body):
            _settle_type(attribute)
            if _is_unsupported(attribute):
                _pack(attribute)
        for info in protos.value_infos(body):
            if not is_supported(info.type):
                info.metadata_props.add(key=MARK, value=_text(info.type))
                info.ClearField("type")
        if isinstance(body, onnx.GraphProto):
            body.initializer.extend(_dense(sparse) for sparse in body.sparse_initializer)
            body.ClearField("sparse_initializer")


def deserialize(model: onnx.ModelProto) -> ir.Model:
    """Return ``model``, after `encode_unsupported`, with its training information."""
    made = ir.from_proto(model)
    if model.training_info:
        made.meta[TRAINING] = list(model.training_info)
    for graph in (scope.graph for scope in scopes(made)):
        for value in graph.initializers.values() if isinstance(graph, ir.Graph) else ():
            tensor = value.const_value
            if isinstance(tensor, TensorProtoTensor) and tensor.doc_string == MARK:
                value.const_value = SparseInitializer(tensor.raw)
    return made


def serialize(model: ir.Model) -> onnx.ModelProto:
    """Return the message of ``model``, with all encoded parts restored."""
    made = ir.to_proto(model)
    made.training_info.extend(model.meta.get(TRAINING, []))
    for body in list(protos.bodies(made)):
        for attribute in protos.attributes(body):
            if attribute.type == onnx.AttributeProto.STRING and _marked(attribute.s):
                attribute.CopyFrom(onnx.AttributeProto.FromString(_unpacked(attribute.s)))
        for info in protos.value_infos(body):
            _restore_type(info)
        if isinstance(body, onnx.GraphProto):
            _restore_sparse(body)
    return made


def _settle_type(attribute: onnx.AttributeProto) -> None:
    """IR version 1 had no types of attributes; `onnx_ir` would drop the value."""
    if attribute.type == onnx.AttributeProto.UNDEFINED and not attribute.ref_attr_name:
        filled = [field.name for field, _ in attribute.ListFields() if field.name in FIELDS]
        if len(filled) != 1:
            raise ModelError(f"attribute {attribute.name!r} has no type, and not one value")
        attribute.type = FIELDS[filled[0]]


def _is_unsupported(attribute: onnx.AttributeProto) -> bool:
    if attribute.type in UNSUPPORTED:
        return True
    if attribute.type == onnx.AttributeProto.STRINGS:
        return not all(map(_is_text, attribute.strings))
    return not all(is_supported(type_) for type_ in _types(attribute))


def _types(attribute: onnx.AttributeProto) -> Iterator[onnx.TypeProto]:
    if attribute.HasField("tp"):
        yield attribute.tp
    yield from attribute.type_protos


def _is_text(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_supported(type_: onnx.TypeProto) -> bool:
    """Return true if `onnx_ir` can hold the type."""
    kind = type_.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        inner = getattr(type_, kind).elem_type
        return inner.WhichOneof("value") is not None and is_supported(inner)
    return kind not in ("map_type", "opaque_type")


def _pack(attribute: onnx.AttributeProto) -> None:
    text = _text(attribute)
    name = attribute.name
    attribute.Clear()
    attribute.name, attribute.type, attribute.s = name, onnx.AttributeProto.STRING, text.encode()


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    return onnx.TensorProto(
        name=sparse.values.name,
        dims=sparse.dims,
        data_type=sparse.values.data_type,
        doc_string=MARK,
        raw_data=sparse.SerializeToString(),
    )


def _restore_type(info: onnx.ValueInfoProto) -> None:
    for index, entry in enumerate(info.metadata_props):
        if entry.key == MARK:
            info.type.ParseFromString(_unpacked(entry.value.encode()))
            del info.metadata_props[index]
            return


def _restore_sparse(graph: onnx.GraphProto) -> None:
    marked = [i for i, tensor in enumerate(graph.initializer) if tensor.doc_string == MARK]
    for index in marked:
        restored = graph.sparse_initializer.add()
        restored.ParseFromString(graph.initializer[index].raw_data)
        restored.values.name = graph.initializer[index].name
    for index in reversed(marked):
        del graph.initializer[index]


def _text(message: onnx.AttributeProto | onnx.TypeProto) -> str:
    return MARK + base64.b64encode(message.SerializeToString()).decode()


def _marked(text: bytes) -> bool:
    return text.startswith(MARK.encode())


def _unpacked(text: bytes) -> bytes:
    return base64.b64decode(text[len(MARK) :])
