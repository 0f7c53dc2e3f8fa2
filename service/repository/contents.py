"""What must be known of an ONNX file before anything that computes opens it.

That is the files that its tensors lie in, wherever in the graph a tensor may be, and which of its
ports have a shape: ONNX Runtime tells a scalar from an unknown shape to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gatewave.service.codecs.datatypes import Array
from gatewave.service.codecs.wire import (
    LENGTH_DELIMITED,
    VARINT,
    MalformedError,
    Reader,
    Span,
    varint,
)
from gatewave.service.errors import ModelRefused
from gatewave.service.onnx import fields as onnx

DEEPEST = 100
"""Messages within messages; Protocol Buffers' own readers stop there too."""

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
"""By the messages of onnx.proto, the fields that lead to where a tensor lies."""

EXTERNAL = "StringStringEntryProto"
COUNTS = ("offset", "length")


@dataclass(frozen=True, slots=True)
class External:
    """Location of a tensor's data outside the ONNX file.

    Attributes:
        location: A path, relative to the folder of the ONNX file.
        end: Offset of the first byte after the data, as far as it is given.
        offset: Offset of the first byte of the data.
    """

    location: str
    end: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Contents:
    """What an ONNX file says of itself.

    Attributes:
        shaped: The inputs and outputs whose shape is declared.
    """

    externals: frozenset[External]
    shaped: frozenset[str]


def contents(model: bytes) -> Contents:
    """Return the contents of the ONNX file with the bytes ``model``.

    Raises:
        ModelRefused: It is not an ONNX file.
    """
    try:
        return contents_of(model)
    except (MalformedError, ValueError) as error:
        raise ModelRefused(f"model.onnx is no ONNX file: {error}") from error


def contents_of(data: bytes) -> Contents:
    """What the ONNX file with the bytes ``data`` says of itself.

    Raises:
        MalformedError: It is none.
    """
    reader = Reader(data)
    whole = (0, len(data))
    externals = frozenset(_externals(reader, "ModelProto", whole, DEEPEST))
    graphs = [span for number, span in reader.fields(whole) if number == onnx.MODEL_GRAPH]
    if not graphs:
        raise MalformedError("it holds no graph")
    return Contents(externals, frozenset(_shaped(reader, graphs)))


def _externals(reader: Reader, message: str, span: Span, depth: int) -> Iterator[External]:
    if not depth:
        raise MalformedError(f"it nests deeper than {DEEPEST} messages")
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


def _entry(reader: Reader, span: Span) -> tuple[str, str]:
    parts = dict(reader.fields(span))
    key, value = (
        reader.bytes(parts.get(number, (0, 0))) for number in (onnx.ENTRY_KEY, onnx.ENTRY_VALUE)
    )
    return key.decode(), value.decode()


def _external(entries: list[tuple[str, str]]) -> External:
    said = dict(entries)
    if len(said) < len(entries):
        raise MalformedError("a tensor says twice where it lies")
    counts = [said.get(key, "0") for key in COUNTS]
    if not all(count.isascii() and count.isdigit() and len(count) < 20 for count in counts):  # noqa: PLR2004
        raise MalformedError("a tensor says where it lies in no whole numbers")
    return External(said.get("location", ""), sum(map(int, counts)), int(counts[0]))


def _shaped(reader: Reader, graphs: list[Span]) -> Iterator[str]:
    for graph in graphs:
        for number, port in reader.fields(graph):
            if number in {onnx.GRAPH_INPUTS, onnx.GRAPH_OUTPUTS}:
                parts = dict(reader.fields(port))
                if _has_shape(reader, parts.get(onnx.PORT_TYPE, (0, 0))):
                    yield reader.bytes(parts.get(onnx.PORT_NAME, (0, 0))).decode()


def _has_shape(reader: Reader, kind: Span) -> bool:
    return any(
        number == onnx.TYPE_TENSOR and onnx.TENSOR_TYPE_SHAPE in dict(reader.fields(tensor))
        for number, tensor in reader.fields(kind)
    )


def inlined(model: bytes, data: Mapping[str, Array]) -> bytes:
    """Return ``model`` with the external data of nested tensors in it.

    ONNX Runtime 1.32 takes external data from memory for the initializers of the main graph only.
    Tensors of subgraphs, of functions, of attributes and of sparse initializers get theirs as
    ``raw_data``; without such tensors, ``model`` itself is returned.

    Args:
        model: An ONNX file that `contents` has read.
        data: The contents of the files with external data, by location.
    """
    pieces = _inlined(Reader(model), "ModelProto", (0, len(model)), data)
    return model if pieces is None else b"".join(pieces)


Pieces = list[bytes | memoryview]


def _inlined(
    reader: Reader, message: str, span: Span, data: Mapping[str, Array], *, in_main: bool = False
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
        # If a field occurs twice, readers take the last.
        location = bytes((onnx.TENSOR_LOCATION << 3 | VARINT, 0))
        return [whole[copied:end], _header(onnx.TENSOR_RAW, raw), *raw, location]
    return [*pieces, whole[copied:end]] if pieces else None


def _raw(external: External, data: Mapping[str, Array]) -> memoryview:
    """Return the bytes of a tensor; without a given length, to the end of the file."""
    content = data[external.location].data
    end = external.end if external.end > external.offset else len(content)
    return content[external.offset : end]


def _header(number: int, pieces: Pieces) -> bytes:
    """Return the tag and the length of a field that consists of ``pieces``."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(sum(map(len, pieces)))
