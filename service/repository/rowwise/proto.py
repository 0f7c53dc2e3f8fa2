"""Graphs of an ONNX file as the analysis reads them, without the package ``onnx``."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.repository.rowwise.values import MAX_ELEMENTS, Element, Size, Value, sizes_of
from service.repository.wire import MalformedError, Reader, Span

T = TypeVar("T", int, Span)

Fields = dict[int, list[Any]]
"""Fields of a message by number: an integer, or the span of the bytes."""

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_OPSETS, MODEL_FUNCTIONS = 7, 8, 25
GRAPH_NODES, GRAPH_TENSORS, GRAPH_SPARSE, GRAPH_INPUTS, GRAPH_OUTPUTS = 1, 5, 15, 11, 12
NODE_INPUTS, NODE_OUTPUTS, NODE_NAME, NODE_OPERATOR, NODE_ATTRIBUTES = 1, 2, 3, 4, 5
NODE_DOMAIN, NODE_OVERLOAD = 7, 8
FUNCTION_NAME, FUNCTION_INPUTS, FUNCTION_OUTPUTS, FUNCTION_NODES = 1, 4, 5, 7
FUNCTION_OPSETS, FUNCTION_DOMAIN, FUNCTION_DEFAULTS, FUNCTION_OVERLOAD = 9, 10, 11, 13
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14
ATTRIBUTE_NAME, ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_TEXT, ATTRIBUTE_TENSOR = 1, 2, 3, 4, 5
ATTRIBUTE_GRAPH, ATTRIBUTE_FLOATS, ATTRIBUTE_INTS, ATTRIBUTE_GRAPHS = 6, 7, 8, 11
ATTRIBUTE_REFERENCE = 21

FORMATS: Mapping[int, tuple[str, int, str]] = {
    1: ("f", 4, "f"),
    6: ("i", 5, ""),
    7: ("q", 7, ""),
    9: ("?", 5, ""),
    11: ("d", 10, "d"),
}
"""Formats by element type of a tensor: of raw data, and of typed data with its field."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Attribute of a node.

    Attributes:
        reference: The attribute of the enclosing function to which it refers, if any.
        is_graph: Whether its value is a graph or a list of graphs.
    """

    integer: int = 0
    number: float = 0.0
    text: str = ""
    integers: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()
    tensor: Value | None = None
    reference: str = ""
    is_graph: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    operator: str
    domain: str
    overload: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Function:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    defaults: Mapping[str, Attribute]
    opsets: Mapping[str, int]


@dataclass(slots=True)
class Model:
    """Main graph of a file, and the functions that it calls.

    Attributes:
        inputs: The declared shape of each: None for a size that is open, or for any shape.
        constants: The graph's initializers.
        functions: By domain, name and overload.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, tuple[int | None, ...] | None] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    constants: dict[str, Value] = field(default_factory=dict)
    opsets: Mapping[str, int] = field(default_factory=dict)
    functions: dict[tuple[str, str, str], Function] = field(default_factory=dict)


def read(data: bytes) -> Model:
    """Read the ONNX file with the bytes ``data``.

    Raises:
        MalformedError: It is not an ONNX file, or a part of a node comes in pieces.
        UnicodeDecodeError: A name in it is not UTF-8.
    """
    return _Decoder(Reader(data)).model((0, len(data)))


class _Decoder:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def model(self, span: Span) -> Model:
        fields = self._fields(span)
        model = Model(opsets=self._opsets(self._spans(fields, MODEL_OPSETS)))
        # Protocol Buffers merge repeated pieces of a message: all graph fields are one graph.
        for graph in self._spans(fields, MODEL_GRAPH):
            self._graph(graph, model)
        for function in self._spans(fields, MODEL_FUNCTIONS):
            self._function(function, model)
        return model

    def _graph(self, span: Span, model: Model) -> None:
        fields = self._fields(span)
        model.nodes += map(self._node, self._spans(fields, GRAPH_NODES))
        for tensor in map(self._fields, self._spans(fields, GRAPH_TENSORS)):
            model.constants[self._text(tensor, TENSOR_NAME)] = self._tensor(tensor)
        for sparse in map(self._fields, self._spans(fields, GRAPH_SPARSE)):
            values = self._fields(self._one(sparse, 1, (0, 0)))
            model.constants[self._text(values, TENSOR_NAME)] = Value()
        for port in map(self._fields, self._spans(fields, GRAPH_INPUTS)):
            model.inputs[self._text(port, 1)] = self._shape(port)
        model.outputs += (
            self._text(self._fields(p), 1) for p in self._spans(fields, GRAPH_OUTPUTS)
        )

    def _shape(self, port: Fields) -> tuple[int | None, ...] | None:
        tensor = self._fields(self._one(self._fields(self._one(port, 2, (0, 0))), 1, (0, 0)))
        if 2 not in tensor:  # noqa: PLR2004 - TypeProto.Tensor.shape
            return None
        sizes = map(self._fields, self._spans(self._fields(self._one(tensor, 2, (0, 0))), 1))
        return tuple(_signed(self._one(size, 1, 0)) if 1 in size else None for size in sizes)

    def _function(self, span: Span, model: Model) -> None:
        fields = self._fields(span)
        texts = (self._text(fields, n) for n in (FUNCTION_DOMAIN, FUNCTION_NAME, FUNCTION_OVERLOAD))
        domain, name, overload = texts
        model.functions[domain, name, overload] = Function(
            self._texts(fields, FUNCTION_INPUTS),
            self._texts(fields, FUNCTION_OUTPUTS),
            tuple(map(self._node, self._spans(fields, FUNCTION_NODES))),
            dict(map(self._attribute, self._spans(fields, FUNCTION_DEFAULTS))),
            self._opsets(self._spans(fields, FUNCTION_OPSETS)),
        )

    def _opsets(self, spans: list[Span]) -> Mapping[str, int]:
        imports = [self._fields(span) for span in spans]
        return {_domain(self._text(f, 1)): _signed(self._one(f, 2, 0)) for f in imports}

    def _node(self, span: Span) -> Node:
        fields = self._fields(span)
        return Node(
            self._text(fields, NODE_OPERATOR),
            _domain(self._text(fields, NODE_DOMAIN)),
            self._text(fields, NODE_OVERLOAD),
            self._text(fields, NODE_NAME),
            self._texts(fields, NODE_INPUTS),
            self._texts(fields, NODE_OUTPUTS),
            dict(map(self._attribute, self._spans(fields, NODE_ATTRIBUTES))),
        )

    def _attribute(self, span: Span) -> tuple[str, Attribute]:
        fields = self._fields(span)
        number = self._spans(fields, ATTRIBUTE_FLOAT)
        text = self.reader.bytes(self._one(fields, ATTRIBUTE_TEXT, (0, 0)))
        tensor = self._spans(fields, ATTRIBUTE_TENSOR)
        attribute = Attribute(
            integer=_signed(self._one(fields, ATTRIBUTE_INT, 0)),
            number=self._floats(number, "f")[-1] if number else 0.0,
            text=text.decode(errors="replace"),
            integers=tuple(self._integers(fields.get(ATTRIBUTE_INTS, []))),
            numbers=tuple(self._floats(self._spans(fields, ATTRIBUTE_FLOATS), "f")),
            tensor=self._tensor(self._fields(tensor[0])) if len(tensor) == 1 else None,
            reference=self._text(fields, ATTRIBUTE_REFERENCE),
            is_graph=ATTRIBUTE_GRAPH in fields or ATTRIBUTE_GRAPHS in fields,
        )
        return self._text(fields, ATTRIBUTE_NAME), attribute

    def _tensor(self, fields: Fields) -> Value:
        shape = [_signed(size) for size in self._integers(fields.get(TENSOR_DIMS, []))]
        return Value(sizes_of(shape), self._elements(fields, shape))

    def _elements(self, fields: Fields, shape: list[int]) -> tuple[Element, ...] | None:
        count = shape[0] if shape else 1
        kind = FORMATS.get(self._one(fields, TENSOR_TYPE, 0))
        elsewhere = TENSOR_EXTERNAL in fields or self._one(fields, TENSOR_LOCATION, 0)
        if kind is None or elsewhere or len(shape) > 1 or not 0 <= count <= MAX_ELEMENTS:
            return None
        raw, number, single = kind
        numbers: list[Any]
        if TENSOR_RAW in fields:
            numbers = self._floats(self._spans(fields, TENSOR_RAW)[:1], raw)
        elif single:
            numbers = self._floats(self._spans(fields, number), single)
        else:
            numbers = list(map(_signed, self._integers(fields.get(number, []))))
        if len(numbers) != count:
            raise MalformedError(f"a tensor of {count} elements has {len(numbers)}")
        return tuple(n if isinstance(n, float) else Size(int(n)) for n in numbers)

    def _integers(self, values: list[Any]) -> Iterator[int]:
        """Return the integers of a repeated field, packed or not."""
        for value in values:
            if isinstance(value, int):
                yield _signed(value)
            else:
                yield from map(_signed, self.reader.varints(value))

    def _floats(self, spans: list[Span], form: str) -> list[Any]:
        """Return numbers of a fixed width, packed or not."""
        data = b"".join(map(self.reader.bytes, spans))
        if len(data) % struct.calcsize(f"<{form}"):
            raise MalformedError("a number is cut off")
        return [number for (number,) in struct.iter_unpack(f"<{form}", data)]

    def _fields(self, span: Span) -> Fields:
        fields: Fields = {}
        for number, value in self.reader.values(span):
            fields.setdefault(number, []).append(value)
        return fields

    def _spans(self, fields: Fields, number: int) -> list[Span]:
        spans = fields.get(number, [])
        if not all(isinstance(span, tuple) for span in spans):
            raise MalformedError("a field is of another kind than in onnx.proto")
        return spans

    def _one(self, fields: Fields, number: int, default: T) -> T:
        values = fields.get(number, [default])
        if len(values) > 1:
            raise MalformedError("a field comes twice")
        if type(values[0]) is not type(default):
            raise MalformedError("a field is of another kind than in onnx.proto")
        first: T = values[0]
        return first

    def _text(self, fields: Fields, number: int) -> str:
        return self.reader.bytes(self._one(fields, number, (0, 0))).decode()

    def _texts(self, fields: Fields, number: int) -> tuple[str, ...]:
        return tuple(self.reader.bytes(span).decode() for span in self._spans(fields, number))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
