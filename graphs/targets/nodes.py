"""Models of one node: an operator with every combination of element types that it allows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gatewave.graphs.targets.examples import ATTRIBUTES, Example, example
from gatewave.graphs.targets.signatures import (
    TYPE_ATTRIBUTES,
    Schema,
    SchemaPort,
    Signature,
    element,
    signature,
)
from gatewave.graphs.targets.tables import ALL_INPUTS, TOLD_APART, Identifier, named

IR_VERSION = 10
"""The newest IR version that every ONNX Runtime version reads; newer types work in it, too."""

MAX_COMBINATIONS = 700
"""Operators with more combinations of types are tried with those of three types each, at most."""

FEW = ("float", "float16", "int64")

VALUES: Mapping[Identifier, tuple[str, ...]] = {
    ("", "Gelu"): ("none", "tanh"),
    ("", "GridSample"): ("linear", "bilinear", "nearest", "cubic", "bicubic"),
    ("", "Pad"): ("constant", "reflect", "edge", "wrap"),
    ("", "Resize"): ("nearest", "linear", "cubic"),
    ("", "ScatterElements"): ("none", "add", "mul", "max", "min"),
    ("", "ScatterND"): ("none", "add", "mul", "max", "min"),
}
"""The values that the attributes of `TOLD_APART` are tried with."""


@dataclass(frozen=True)
class Trial:
    """A model to be loaded.

    Attributes:
        name: Name of its row in the table.
        opset: The version of the operator's domain that it imports.
        signature: The element types.
        content: The model.
    """

    name: str
    opset: int
    signature: Signature
    content: bytes


def trials(
    identifier: Identifier, schema: Schema, opset: int, imports: Mapping[str, int]
) -> Iterator[Trial]:
    """Yield a model for each combination of element types of an operator at ``opset``."""
    told = TOLD_APART.get(identifier)
    values: tuple[str | None, ...] = VALUES[identifier] if told is not None else (None,)
    if told is not None and told[0] not in schema.attributes:
        values = (None,)
    entry = example(identifier[1], opset)
    for value in values:
        more = {} if value is None or told is None else {told[0]: value}
        name = named(identifier, more)
        maker = _Maker(identifier, schema, entry, opset, {**entry.attributes, **more})
        for given in _given(schema, entry):
            yield from _tried(maker, name, given, imports)
        for given in _all_given(schema, entry):
            yield from _tried(maker, name + ALL_INPUTS, given, imports)


def _tried(
    maker: _Maker, name: str, given: tuple[int, ...], imports: Mapping[str, int]
) -> Iterator[Trial]:
    schema = maker.schema
    stating = _stating(schema)
    alternatives = [bool(stating)] + [False] * bool({*stating} - {*schema.required})
    for types in (
        t for states in alternatives for t in _combinations(schema, given, states=states)
    ):
        content = maker.model(given, types, imports)
        inputs = [element(types.get(p.kind, p.kind)) for p in _ports(schema, given)]
        kinds = [k if i in given else "" for i, k in enumerate(inputs)]
        yield Trial(name, maker.opset, signature(schema, kinds, maker.stated), content)


def _ports(schema: Schema, given: Sequence[int]) -> list[SchemaPort]:
    count = max(given, default=-1) + 1
    ports = [schema.input(index) for index in range(count)]
    return [port for port in ports if port is not None]


def _combinations(
    schema: Schema, given: tuple[int, ...], *, states: bool
) -> Iterator[dict[str, str]]:
    """Yield types for the variables that the inputs bind, and those that an attribute states."""
    bound = {port.kind for i, port in enumerate(_ports(schema, given)) if i in given}
    if states:
        bound.add(schema.outputs[0].kind)
    names = [name for name in schema.variables if name in bound]
    choices = [_types(schema.variables[name]) for name in names]
    # object: the product of many choices may exceed 64 bits.
    total = int(np.prod([len(c) for c in choices], dtype=object))
    if total > MAX_COMBINATIONS:
        choices = [[k for k in c if element(k) in FEW] or c[:2] for c in choices]
    for chosen in itertools.product(*choices):
        yield dict(zip(names, chosen, strict=True))


def _types(allowed: Sequence[str]) -> list[str]:
    """Return the types to try: optional types only if there are no others."""
    plain = [kind for kind in allowed if kind.startswith(("tensor(", "map("))]
    return plain or [kind for kind in allowed if kind.startswith("seq(")] or list(allowed)


def _given(schema: Schema, entry: Example) -> Iterator[tuple[int, ...]]:
    """Yield the required inputs, then also those of further type variables, singly and all."""
    needed = [i for i, p in enumerate(schema.inputs) if not p.optional or i in entry.given]
    if schema.inputs and schema.inputs[-1].variadic and entry.inputs is not None:
        needed = [*needed[:-1], *range(len(schema.inputs) - 1, entry.inputs)]
    yield tuple(needed)
    bound = {schema.inputs[min(i, len(schema.inputs) - 1)].kind for i in needed}
    further: dict[str, int] = {}
    for index, port in enumerate(schema.inputs):
        if port.kind in schema.variables and port.kind not in bound:
            further.setdefault(port.kind, index)
    for index in further.values():
        yield tuple(sorted({*needed, index}))
    if len(further) > 1:
        yield tuple(sorted({*needed, *further.values()}))


def _all_given(schema: Schema, entry: Example) -> Iterator[tuple[int, ...]]:
    """Yield all inputs except those of further type variables, if there are optional ones.

    Some operators behave differently without optional inputs, such as ``Clip`` without limits.
    """
    (needed, *_) = _given(schema, entry)
    bound = {schema.inputs[min(i, len(schema.inputs) - 1)].kind for i in needed}
    fixed = {port.kind for port in schema.inputs if port.kind not in schema.variables}
    more = [i for i, p in enumerate(schema.inputs) if p.optional and p.kind in bound | fixed]
    if {*more} - {*needed}:
        yield tuple(sorted({*needed, *more}))


def _stating(schema: Schema) -> list[str]:
    """Return the attributes that state the element type of the output."""
    names = [name for name in TYPE_ATTRIBUTES if name in schema.attributes]
    return names + ["value"] * _is_valued(schema)


def _is_valued(schema: Schema) -> bool:
    """Return true if a tensor attribute states the element type of the output."""
    bound = {port.kind for port in schema.inputs}
    return "value" in schema.attributes and schema.outputs[0].kind not in bound


class _Maker:
    """Makes the model of one node."""

    def __init__(
        self,
        identifier: Identifier,
        schema: Schema,
        entry: Example,
        opset: int,
        attributes: Mapping[str, Any],
    ) -> None:
        self._identifier = identifier
        self.schema = self._schema = schema
        self._entry = entry
        self.opset = opset
        self._attributes = attributes
        self.stated = ""

    def model(
        self, given: Sequence[int], types: Mapping[str, str], imports: Mapping[str, int]
    ) -> bytes:
        """Return the model of the inputs that are given, in these types."""
        attributes = self._all_attributes(types)
        ports = _ports(self._schema, given)
        names = [f"x{index}" if index in given else "" for index in range(len(ports))]
        inputs, constants = [], []
        for index in given:
            kind = types.get(ports[index].kind, ports[index].kind)
            if index in self._entry.constants:
                constants.append(_constant(f"x{index}", kind, self._entry.constants[index]))
            else:
                shape = self._entry.shapes.get(index)
                inputs.append(onnx.ValueInfoProto(name=f"x{index}", type=type_of(kind, shape)))
        count = self._entry.outputs or max(1, self._needed_outputs())
        outputs = [f"y{index}" for index in range(count)]
        domain, op_type = self._identifier
        node = helper.make_node(op_type, names, outputs, domain=domain, **attributes)
        ports_out = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph([node], "g", inputs, ports_out, constants)
        opsets = [helper.make_opsetid(name, version) for name, version in imports.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return bytes(model.SerializeToString())

    def _needed_outputs(self) -> int:
        return sum(not port.optional and not port.variadic for port in self._schema.outputs)

    def _all_attributes(self, types: Mapping[str, str]) -> dict[str, Any]:
        found = {name: ATTRIBUTES[name] for name in self._schema.required if name in ATTRIBUTES}
        found |= self._attributes
        wanted = types.get(self._schema.outputs[0].kind, "") if self._schema.outputs else ""
        self.stated = ""
        for name in TYPE_ATTRIBUTES:
            if name in self._schema.attributes and wanted:
                self.stated = element(wanted)
                found[name] = number_of(self.stated)
        if _is_valued(self._schema) and wanted:
            found["value"] = _constant("value", wanted, [1])
            self.stated = element(wanted)
        for name in ("body", "then_branch", "else_branch"):
            if name in self._schema.required:
                found[name] = self._body(types)
        return found

    def _body(self, types: Mapping[str, str]) -> onnx.GraphProto:
        """Return a body that gives values of the outer graph, or its own inputs, back."""
        carried = types.get("V", "tensor(float)")
        op_type = self._identifier[1]
        if op_type == "If":
            return _identities((), ("x0",))
        if op_type == "Loop":
            return _identities((("i", "tensor(int64)"), ("c", "tensor(bool)"), ("v", carried)))
        if op_type == "SequenceMap":
            carried = f"tensor({element(types['S'])})"
        return _identities((("v", carried),))


def _identities(inputs: Sequence[tuple[str, str]], outer: Sequence[str] = ()) -> onnx.GraphProto:
    """Return a graph that gives back its inputs, but for the number of an iteration."""
    names = [*(name for name, _ in inputs if name != "i"), *outer]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    ports = [onnx.ValueInfoProto(name=name, type=type_of(kind)) for name, kind in inputs]
    results = [onnx.ValueInfoProto(name=f"{name}_out") for name in names]
    kinds = {**dict(inputs), "x0": "tensor(bool)"}
    for result, name in zip(results, names, strict=True):
        result.type.CopyFrom(type_of(kinds[name]))
    return helper.make_graph(nodes, "body", ports, results)


def number_of(name: str) -> int:
    """Return ONNX's number of an element type such as ``float8e4m3fn``."""
    return int(onnx.TensorProto.DataType.Value(name.upper()))


def type_of(kind: str, shape: Sequence[int] | None = None) -> onnx.TypeProto:
    """Return the type that ``seq(tensor(float))`` and its kin write."""
    outer = kind.partition("(")[0]
    inner = kind[len(outer) + 1 : -1]
    if outer == "tensor":
        return helper.make_tensor_type_proto(number_of(inner), shape)
    if outer == "sparse_tensor":
        return helper.make_sparse_tensor_type_proto(number_of(inner), shape)
    if outer == "seq":
        return helper.make_sequence_type_proto(type_of(inner))
    if outer == "optional":
        return helper.make_optional_type_proto(type_of(inner))
    if outer == "map":
        key, _, value = inner.partition(", ")
        return helper.make_map_type_proto(
            number_of(key), type_of(value if "(" in value else f"tensor({value})")
        )
    raise ValueError(f"no type is written {kind!r}")


def _constant(name: str, kind: str, value: Any) -> onnx.TensorProto:
    """Return a tensor of the type ``kind``."""
    number = number_of(element(kind))
    if number == onnx.TensorProto.STRING:
        return numpy_helper.from_array(np.full(np.shape(value), "", object), name)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    return numpy_helper.from_array(np.asarray(value).astype(dtype), name)
