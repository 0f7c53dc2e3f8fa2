"""What must be known of an ONNX file before anything that computes opens it.

That is the files that its tensors lie in, wherever in the graph a tensor may be, and which of its
ports have a shape: ONNX Runtime tells a scalar from an unknown shape to nobody.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import ModelRefused
from service.repository.wire import Data, MalformedError, Reader, Span

DEEPEST = 100
"""Messages within messages; Protocol Buffers' own readers stop there too."""

NESTED: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
"""By the messages of onnx.proto, the fields that lead to where a tensor lies."""

EXTERNAL = "StringStringEntryProto"
MODEL_GRAPH = 7
GRAPH_PORTS = (11, 12)
PORT_NAME, PORT_TYPE, TYPE_TENSOR, TENSOR_SHAPE = 1, 2, 1, 2
ENTRY_KEY, ENTRY_VALUE = 1, 2
COUNTS = ("offset", "length")


@dataclass(frozen=True, slots=True)
class External:
    """Where a tensor says that its numbers lie.

    Attributes:
        location: A path, relative to the folder of the ONNX file.
        end: The first byte after them, as far as it is said.
    """

    location: str
    end: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What an ONNX file says of itself.

    Attributes:
        shaped: The inputs and outputs whose shape is declared.
    """

    externals: frozenset[External]
    shaped: frozenset[str]


def contents(path: Path) -> Contents:
    """What the ONNX file at ``path`` says of itself.

    Raises:
        ModelRefused: It is no ONNX file.
    """
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return contents_of(data)
        except (MalformedError, ValueError) as error:
            raise ModelRefused(f"{path.name} is no ONNX file: {error}") from error


def contents_of(data: Data) -> Contents:
    """What the ONNX file with the bytes ``data`` says of itself.

    Raises:
        MalformedError: It is none.
    """
    reader = Reader(data)
    whole = (0, len(data))
    externals = frozenset(_externals(reader, "ModelProto", whole, DEEPEST))
    graphs = [span for number, span in reader.fields(whole) if number == MODEL_GRAPH]
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
    key, value = (reader.bytes(parts.get(number, (0, 0))) for number in (ENTRY_KEY, ENTRY_VALUE))
    return key.decode(), value.decode()


def _external(entries: list[tuple[str, str]]) -> External:
    said = dict(entries)
    if len(said) < len(entries):
        raise MalformedError("a tensor says twice where it lies")
    counts = [said.get(key, "0") for key in COUNTS]
    if not all(count.isascii() and count.isdigit() and len(count) < 20 for count in counts):  # noqa: PLR2004
        raise MalformedError("a tensor says where it lies in no whole numbers")
    return External(said.get("location", ""), sum(map(int, counts)))


def _shaped(reader: Reader, graphs: list[Span]) -> Iterator[str]:
    for graph in graphs:
        for number, port in reader.fields(graph):
            if number in GRAPH_PORTS:
                parts = dict(reader.fields(port))
                if _has_shape(reader, parts.get(PORT_TYPE, (0, 0))):
                    yield reader.bytes(parts.get(PORT_NAME, (0, 0))).decode()


def _has_shape(reader: Reader, kind: Span) -> bool:
    return any(
        number == TYPE_TENSOR and TENSOR_SHAPE in dict(reader.fields(tensor))
        for number, tensor in reader.fields(kind)
    )
