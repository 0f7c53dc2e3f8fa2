"""Reader of untrusted ONNX files: their external data, and their declared shapes.

It runs before ONNX Runtime opens the file, because ONNX Runtime reads external data from any path
that a tensor names. It also finds the inputs and outputs with a declared shape: ONNX Runtime
reports a scalar and an unknown shape alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gatewave.service.codecs.datatypes import Array
from gatewave.service.codecs.wire import (
    LENGTH_DELIMITED,
    VARINT,
    MalformedError,
    Span,
    WireReader,
    varint,
)
from gatewave.service.errors import ModelRefused
from gatewave.service.onnx import fields as onnx

MAX_DEPTH = 100
"""Depth of nested messages; the readers of Protocol Buffers have the same limit."""

NESTED: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {
        onnx.MODEL_GRAPH: "GraphProto",
        onnx.MODEL_TRAINING: "TrainingInfoProto",
        onnx.MODEL_FUNCTIONS: "FunctionProto",
    },
    "TrainingInfoProto": {
        onnx.TRAINING_INITIALIZATION: "GraphProto",
        onnx.TRAINING_ALGORITHM: "GraphProto",
    },
    "FunctionProto": {onnx.FUNCTION_NODES: "NodeProto", onnx.FUNCTION_DEFAULTS: "AttributeProto"},
    "GraphProto": {
        onnx.GRAPH_NODES: "NodeProto",
        onnx.GRAPH_TENSORS: "TensorProto",
        onnx.GRAPH_SPARSE: "SparseTensorProto",
    },
    "NodeProto": {onnx.NODE_ATTRIBUTES: "AttributeProto"},
    "AttributeProto": {
        onnx.ATTRIBUTE_TENSOR: "TensorProto",
        onnx.ATTRIBUTE_GRAPH: "GraphProto",
        onnx.ATTRIBUTE_TENSORS: "TensorProto",
        onnx.ATTRIBUTE_GRAPHS: "GraphProto",
        onnx.ATTRIBUTE_SPARSE: "SparseTensorProto",
        onnx.ATTRIBUTE_SPARSES: "SparseTensorProto",
    },
    "SparseTensorProto": {onnx.SPARSE_VALUES: "TensorProto", onnx.SPARSE_INDICES: "TensorProto"},
    "TensorProto": {onnx.TENSOR_EXTERNAL: "StringStringEntryProto"},
}
"""Fields that lead to the location of a tensor, by message of onnx.proto."""

EXTERNAL = "StringStringEntryProto"
COUNTS = ("offset", "length")


@dataclass(frozen=True, slots=True)
class External:
    """Location of a tensor's data outside the ONNX file.

    Attributes:
        location: A path, relative to the folder of the ONNX file.
        end: Offset of the first byte after the data; equal to ``offset`` if no length is given.
        offset: Offset of the first byte of the data.
    """

    location: str
    end: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """Facts about an ONNX file.

    Attributes:
        externals: The locations of external data, of tensors anywhere in the graph.
        shaped: The inputs and outputs whose shape is declared.
    """

    externals: frozenset[External]
    shaped: frozenset[str]


def parse(model: bytes) -> OnnxFile:
    """Return the facts about the ONNX file with the bytes ``model``.

    Raises:
        ModelRefused: It is not an ONNX file.
    """
    try:
        return parse_bytes(model)
    except (MalformedError, ValueError) as error:
        raise ModelRefused(f"model.onnx is not an ONNX file: {error}") from error


def parse_bytes(data: bytes) -> OnnxFile:
    """Return the facts about the ONNX file with the bytes ``data``.

    Raises:
        MalformedError: It is not an ONNX file.
    """
    reader = WireReader(data)
    whole = (0, len(data))
    externals = frozenset(_externals(reader, "ModelProto", whole, MAX_DEPTH))
    graphs = [span for number, span in reader.fields(whole) if number == onnx.MODEL_GRAPH]
    if not graphs:
        raise MalformedError("there is no graph")
    return OnnxFile(externals, frozenset(_shaped(reader, graphs)))


def _externals(reader: WireReader, message: str, span: Span, depth: int) -> Iterator[External]:
    if not depth:
        raise MalformedError(f"messages are nested deeper than {MAX_DEPTH} levels")
    nested = NESTED[message]
    entries = []
    for number, inner in reader.fields(span):
        kind = nested.get(number)
        if kind == EXTERNAL:
            entries.append(_entry(reader, inner))
        elif kind:
            yield from _externals(reader, kind, inner, depth - 1)
    if entries:
        yield _external(entries)


def _entry(reader: WireReader, span: Span) -> tuple[str, str]:
    parts = dict(reader.fields(span))
    key, value = (
        reader.bytes(parts.get(number, (0, 0))) for number in (onnx.ENTRY_KEY, onnx.ENTRY_VALUE)
    )
    return key.decode(), value.decode()


def _external(entries: list[tuple[str, str]]) -> External:
    fields = dict(entries)
    # Readers differ in which of two values they take, so that a checked path could be another one
    # than the opened path.
    if len(fields) < len(entries):
        raise MalformedError("the external data of a tensor has a field twice")
    counts = [fields.get(key, "0") for key in COUNTS]
    if not all(count.isascii() and count.isdigit() and len(count) < 20 for count in counts):  # noqa: PLR2004
        raise MalformedError("the offset or length of a tensor is not a non-negative integer")
    return External(fields.get("location", ""), sum(map(int, counts)), int(counts[0]))


def _shaped(reader: WireReader, graphs: list[Span]) -> Iterator[str]:
    for graph in graphs:
        for number, port in reader.fields(graph):
            if number in {onnx.GRAPH_INPUTS, onnx.GRAPH_OUTPUTS}:
                parts = dict(reader.fields(port))
                if _has_shape(reader, parts.get(onnx.PORT_TYPE, (0, 0))):
                    yield reader.bytes(parts.get(onnx.PORT_NAME, (0, 0))).decode()


def _has_shape(reader: WireReader, kind: Span) -> bool:
    return any(
        number == onnx.TYPE_TENSOR and onnx.TENSOR_TYPE_SHAPE in dict(reader.fields(tensor))
        for number, tensor in reader.fields(kind)
    )


def inline_external_data(model: bytes, data: Mapping[str, Array]) -> bytes:
    """Return ``model`` with the external data of nested tensors in it.

    ONNX Runtime 1.32 accepts external data from memory for the initializers of the main graph only.
    Tensors of subgraphs, functions, attributes and sparse initializers therefore get their data as
    ``raw_data``. Without such tensors, ``model`` itself is returned.

    Args:
        model: An ONNX file that `parse` has read.
        data: The contents of the files with external data, by location.
    """
    pieces = _inlined(WireReader(model), "ModelProto", (0, len(model)), data)
    return model if pieces is None else b"".join(pieces)


Pieces = list[bytes | memoryview]


def _inlined(
    reader: WireReader,
    message: str,
    span: Span,
    data: Mapping[str, Array],
    *,
    in_main: bool = False,
) -> Pieces | None:
    """Return the message at ``span`` with external data in it, or None if there is none."""
    nested, whole = NESTED[message], memoryview(reader.data)
    pieces: Pieces = []
    entries: list[tuple[str, str]] = []
    copied, end = span
    is_external = False
    for number, kind, start, inner in reader.parts(span):
        if number == onnx.TENSOR_LOCATION and kind == VARINT and message == "TensorProto":
            is_external = reader.varint(inner) == onnx.LOCATION_EXTERNAL
        below = nested.get(number) if kind == LENGTH_DELIMITED else None
        if below == EXTERNAL:
            entries.append(_entry(reader, inner))
        elif below and not (in_main and number == onnx.GRAPH_TENSORS):
            main = message == "ModelProto" and number == onnx.MODEL_GRAPH
            replaced = _inlined(reader, below, inner, data, in_main=main)
            if replaced is not None:
                pieces += [whole[copied:start], _header(number, replaced), *replaced]
                copied = inner[1]
    if entries and is_external:
        external = _external(entries)
        raw: Pieces = [_raw(external, data)]
        # If a field occurs twice, readers of Protocol Buffers take the last.
        location = bytes((onnx.TENSOR_LOCATION << 3 | VARINT, 0))
        return [whole[copied:end], _header(onnx.TENSOR_RAW, raw), *raw, location]
    return [*pieces, whole[copied:end]] if pieces else None


def _raw(external: External, data: Mapping[str, Array]) -> memoryview:
    """Return the bytes of a tensor: up to the end of the file if no length is given."""
    content = data[external.location].data
    end = external.end if external.end > external.offset else len(content)
    return content[external.offset : end]


def _header(number: int, pieces: Pieces) -> bytes:
    """Return the tag and the length of a field that consists of ``pieces``."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(sum(map(len, pieces)))
