"""Nodes, tensors and functions of an ONNX file, read without the package ``onnx``."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gatewave.service.codecs.datatypes import BOOL, DOUBLE, FLOAT, INT32, INT64
from gatewave.service.codecs.wire import MalformedError, Span, WireReader
from gatewave.service.onnx import fields as onnx

T = TypeVar("T", int, Span)

Fields = dict[int, list[Any]]
"""Fields of a message by number: an integer, or the span of the bytes."""

MAX_ELEMENTS = 64
"""Most elements of a tensor that are read: shapes, axes, divisors and trip counts have few."""

FORMATS: Mapping[int, tuple[str, int, str]] = {
    FLOAT: ("f", onnx.TENSOR_FLOATS, "f"),
    INT32: ("i", onnx.TENSOR_INT32S, ""),
    INT64: ("q", onnx.TENSOR_INT64S, ""),
    BOOL: ("?", onnx.TENSOR_INT32S, ""),
    DOUBLE: ("d", onnx.TENSOR_DOUBLES, "d"),
}
"""Formats by element type of a tensor: of raw data, and of typed data with its field."""

OTHER_KIND = "a field is of another kind than in onnx.proto"

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class TensorProto:
    """Tensor whose value is in the file.

    Attributes:
        kind: The number of its element type in ONNX; 0 if it is not given.
        shape: None for a sparse tensor.
        elements: Its elements, if they are few, in the file itself and of a type in `FORMATS`.
    """

    name: str
    kind: int
    shape: tuple[int, ...] | None = None
    elements: tuple[int | float, ...] | None = None


@dataclass(frozen=True, slots=True)
class ValueInfoProto:
    """Input of a graph.

    Attributes:
        kind: The number of its element type in ONNX; 0 if it is not given.
        shape: None for an unknown shape; in it, None for an unknown size.
    """

    name: str
    kind: int
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class AttributeProto:
    """Attribute of a node.

    Attributes:
        reference: The attribute of the enclosing function to which it refers, if any.
        graphs: The spans of its graphs, for `File.graph`.
    """

    integer: int = 0
    number: float = 0.0
    text: str = ""
    integers: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()
    tensor: TensorProto | None = None
    reference: str = ""
    graphs: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeProto:
    operator: str
    domain: str
    overload: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeProto]


@dataclass(frozen=True, slots=True)
class FunctionProto:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodeProto, ...]
    defaults: Mapping[str, AttributeProto]
    opsets: Mapping[str, int]


@dataclass(slots=True)
class GraphProto:
    """Main graph of a file, or a graph within it.

    Attributes:
        tensors: Its initializers, the sparse ones last.
        outputs: The names of its outputs.
    """

    nodes: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ModelProto:
    """Main graph of a file, and the functions that it calls.

    Attributes:
        version: Version of the format.
        functions: By domain, name and overload.
    """

    version: int
    opsets: Mapping[str, int]
    graph: GraphProto
    functions: Mapping[tuple[str, str, str], FunctionProto]


class File:
    """ONNX file whose messages are read on demand.

    Its methods raise:
        MalformedError: It is not an ONNX file, or a part of a node comes in pieces.
        UnicodeDecodeError: A name in it is not UTF-8.
    """

    def __init__(self, data: bytes) -> None:
        self.reader = WireReader(data)

    def model(self) -> ModelProto:
        """Read the model without the graphs within nodes."""
        fields = self._fields((0, len(self.reader.data)))
        return ModelProto(
            self._one(fields, onnx.MODEL_VERSION, 0),
            self._opsets(self._spans(fields, onnx.MODEL_OPSETS)),
            # Protocol Buffers merge repeated pieces of a message: all graph fields are one graph.
            self.graph(*self._spans(fields, onnx.MODEL_GRAPH)),
            dict(map(self._function, self._spans(fields, onnx.MODEL_FUNCTIONS))),
        )

    def graph(self, *spans: Span) -> GraphProto:
        """Read the graph with its pieces at ``spans``."""
        graph = GraphProto()
        for fields in map(self._fields, spans):
            graph.nodes += map(self._node, self._spans(fields, onnx.GRAPH_NODES))
            graph.tensors += map(self._tensor, self._spans(fields, onnx.GRAPH_TENSORS))
            graph.tensors += map(self._sparse, self._spans(fields, onnx.GRAPH_SPARSE))
            graph.inputs += map(self._port, self._spans(fields, onnx.GRAPH_INPUTS))
            outputs = map(self._fields, self._spans(fields, onnx.GRAPH_OUTPUTS))
            graph.outputs += (self._text(port, onnx.PORT_NAME) for port in outputs)
        return graph

    def _port(self, span: Span) -> ValueInfoProto:
        fields = self._fields(span)
        tensor = self._inner(self._inner(fields, onnx.PORT_TYPE), onnx.TYPE_TENSOR)
        kind = self._one(tensor, onnx.TENSOR_TYPE_ELEMENT, 0)
        return ValueInfoProto(self._text(fields, onnx.PORT_NAME), kind, self._shape(tensor))

    def _shape(self, tensor: Fields) -> Shape | None:
        if onnx.TENSOR_TYPE_SHAPE not in tensor:
            return None
        shape = self._inner(tensor, onnx.TENSOR_TYPE_SHAPE)
        return tuple(map(self._dim, self._spans(shape, onnx.SHAPE_DIMS)))

    def _dim(self, span: Span) -> int | None:
        size = self._fields(span)
        return _signed(self._one(size, onnx.DIM_VALUE, 0)) if onnx.DIM_VALUE in size else None

    def _function(self, span: Span) -> tuple[tuple[str, str, str], FunctionProto]:
        fields = self._fields(span)
        called = (
            self._text(fields, onnx.FUNCTION_DOMAIN),
            self._text(fields, onnx.FUNCTION_NAME),
            self._text(fields, onnx.FUNCTION_OVERLOAD),
        )
        return called, FunctionProto(
            self._texts(fields, onnx.FUNCTION_INPUTS),
            self._texts(fields, onnx.FUNCTION_OUTPUTS),
            tuple(map(self._node, self._spans(fields, onnx.FUNCTION_NODES))),
            dict(map(self._attribute, self._spans(fields, onnx.FUNCTION_DEFAULTS))),
            self._opsets(self._spans(fields, onnx.FUNCTION_OPSETS)),
        )

    def _opsets(self, spans: list[Span]) -> Mapping[str, int]:
        return dict(map(self._opset, spans))

    def _opset(self, span: Span) -> tuple[str, int]:
        fields = self._fields(span)
        version = _signed(self._one(fields, onnx.OPSET_VERSION, 0))
        return _domain(self._text(fields, onnx.OPSET_DOMAIN)), version

    def _node(self, span: Span) -> NodeProto:
        fields = self._fields(span)
        return NodeProto(
            self._text(fields, onnx.NODE_OPERATOR),
            _domain(self._text(fields, onnx.NODE_DOMAIN)),
            self._text(fields, onnx.NODE_OVERLOAD),
            self._text(fields, onnx.NODE_NAME),
            self._texts(fields, onnx.NODE_INPUTS),
            self._texts(fields, onnx.NODE_OUTPUTS),
            dict(map(self._attribute, self._spans(fields, onnx.NODE_ATTRIBUTES))),
        )

    def _attribute(self, span: Span) -> tuple[str, AttributeProto]:
        fields = self._fields(span)
        number = self._spans(fields, onnx.ATTRIBUTE_FLOAT)
        text = self.reader.bytes(self._one(fields, onnx.ATTRIBUTE_TEXT, (0, 0)))
        tensor = self._spans(fields, onnx.ATTRIBUTE_TENSOR)
        attribute = AttributeProto(
            integer=_signed(self._one(fields, onnx.ATTRIBUTE_INT, 0)),
            number=self._floats(number, "f")[-1] if number else 0.0,
            text=text.decode(errors="replace"),
            integers=tuple(self._integers(fields.get(onnx.ATTRIBUTE_INTS, []))),
            numbers=tuple(self._floats(self._spans(fields, onnx.ATTRIBUTE_FLOATS), "f")),
            tensor=self._tensor(tensor[0]) if len(tensor) == 1 else None,
            reference=self._text(fields, onnx.ATTRIBUTE_REFERENCE),
            graphs=(
                *self._spans(fields, onnx.ATTRIBUTE_GRAPH),
                *self._spans(fields, onnx.ATTRIBUTE_GRAPHS),
            ),
        )
        return self._text(fields, onnx.ATTRIBUTE_NAME), attribute

    def _tensor(self, span: Span) -> TensorProto:
        fields = self._fields(span)
        kind = self._one(fields, onnx.TENSOR_TYPE, 0)
        shape = tuple(self._integers(fields.get(onnx.TENSOR_DIMS, [])))
        return TensorProto(
            self._text(fields, onnx.TENSOR_NAME), kind, shape, self._elements(fields, kind, shape)
        )

    def _sparse(self, span: Span) -> TensorProto:
        values = self._inner(self._fields(span), onnx.SPARSE_VALUES)
        return TensorProto(
            self._text(values, onnx.TENSOR_NAME), self._one(values, onnx.TENSOR_TYPE, 0)
        )

    def _elements(
        self, fields: Fields, kind: int, shape: tuple[int, ...]
    ) -> tuple[int | float, ...] | None:
        elsewhere = onnx.TENSOR_EXTERNAL in fields or self._one(fields, onnx.TENSOR_LOCATION, 0)
        # The product of many sizes would take more than linear time.
        if (
            kind not in FORMATS
            or elsewhere
            or len(shape) > MAX_ELEMENTS
            or min(shape, default=0) < 0
        ):
            return None
        count = math.prod(shape)
        if count > MAX_ELEMENTS:
            return None
        raw, number, single = FORMATS[kind]
        numbers: list[Any]
        if onnx.TENSOR_RAW in fields:
            numbers = self._floats(self._spans(fields, onnx.TENSOR_RAW)[:1], raw)
        elif single:
            numbers = self._floats(self._spans(fields, number), single)
        else:
            numbers = list(self._integers(fields.get(number, [])))
        if len(numbers) != count:
            raise MalformedError(f"a tensor of {count} elements has {len(numbers)}")
        return tuple(n if isinstance(n, float) else int(n) for n in numbers)

    def _integers(self, values: list[Any]) -> Iterator[int]:
        """Yield the integers of a repeated field, packed or not."""
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
            raise MalformedError(OTHER_KIND)
        return spans

    def _inner(self, fields: Fields, number: int) -> Fields:
        return self._fields(self._one(fields, number, (0, 0)))

    def _one(self, fields: Fields, number: int, default: T) -> T:
        values = fields.get(number, [default])
        if len(values) > 1:
            raise MalformedError("a field comes twice")
        if type(values[0]) is not type(default):
            raise MalformedError(OTHER_KIND)
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
