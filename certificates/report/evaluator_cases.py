"""ONNX's own tests of operators, at every version of the operator and in every element type.

The onnx package tests each operator at its last version, and mostly in float32. Here the same node
is declared at earlier opsets too, and its inputs are cast to the other types that the operator
takes. Every model that onnx's checker accepts is a case. The expected results are not known: two
implementations are compared.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
from onnx import AttributeProto, helper
from onnx.backend.test.case.node import collect_testcases
from onnx.defs import OpSchema

from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.random_outputs import RANDOM

FIRST_OPSET = 7
"""ONNX Runtime has no earlier ones."""

DTYPES = {
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": "bool",
}
"""The element types that inputs are cast to, as NumPy and as ONNX's schemas name them."""

RENAMED = {"constant_value": "value"}
"""Inputs that were attributes of another name at earlier versions."""

LARGEST_INTEGER = 100

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "global_max_pool_1d": "(float[2,3,4] x) => (float[2,3,1] y) { y = GlobalMaxPool(x) }",
        "global_max_pool_3d": "(float[2,3,4,5,6] x) => (float[2,3,1,1,1] y) "
        "{ y = GlobalMaxPool(x) }",
        "global_average_pool_1d": "(float[2,3,4] x) => (float[2,3,1] y) "
        "{ y = GlobalAveragePool(x) }",
    }
)
"""Cases that occur in models but not in onnx's tests; their inputs are random."""


@dataclass(frozen=True)
class Variant:
    """A node by itself, with inputs.

    Attributes:
        test: The test of the onnx package that it is made from.
        operator: Name of the operator, with its domain unless that is ONNX's own.
        opsets: The first and the last that have this version of it; no last one for the newest.
        dtype: Element type of the inputs that were cast, or of the first input.
        model: The node; its output types may be missing.
        inputs: Inputs by name.
    """

    test: str
    operator: str
    opsets: tuple[int, int | None]
    dtype: str
    model: onnx.ModelProto
    inputs: dict[str, Array]


def variants(operators: Sequence[str] = ()) -> Iterator[Variant]:
    """Yield every case of these operators; of all, by default."""
    with warnings.catch_warnings():  # the tests are computed when they are collected
        warnings.simplefilter("ignore")
        # It collects once, whatever is asked for, and so is asked for all.
        tests = collect_testcases(None)
    for test in tests:
        if test.model is None or not test.data_sets:
            continue
        (arrays, _), nodes = test.data_sets[0], test.model.graph.node
        plain = all(isinstance(array, np.ndarray | np.generic) for array in arrays)
        wanted = not operators or nodes[0].op_type in operators
        if len(nodes) == 1 and wanted and plain and nodes[0].op_type not in RANDOM:
            yield from _of_test(test.name, test.model, arrays)
    for name, text in EXTRAS.items():
        model = onnx.parser.parse_model(f'<ir_version: 11, opset_import: ["" : 22]> g {text}')
        if not operators or model.graph.node[0].op_type in operators:
            yield from _of_test(name, model, _drawn(model))


def _drawn(model: onnx.ModelProto) -> list[Array]:
    """Return normal numbers for each input, always the same."""
    source = np.random.default_rng(0)
    shapes = [[d.dim_value for d in p.type.tensor_type.shape.dim] for p in model.graph.input]
    return [source.standard_normal(shape).astype(np.float32) for shape in shapes]


def _of_test(name: str, model: onnx.ModelProto, arrays: Sequence[Array]) -> Iterator[Variant]:
    node = model.graph.node[0]
    newest = next((o.version for o in model.opset_import if o.domain == node.domain), 1)
    names = [port.name for port in model.graph.input]
    inputs = {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}
    try:
        schema = onnx.defs.get_schema(node.op_type, newest, node.domain)
    except onnx.defs.SchemaError:
        return
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    for version, opsets in _versions(node):
        for dtype, given in _cast(node, version, inputs):
            found = _stamped(model, schema, version, given)
            if found is not None:
                kept = {port.name: given[port.name] for port in found.graph.input}
                yield Variant(name, operator, opsets, dtype, found, kept)


def _versions(node: onnx.NodeProto) -> Iterator[tuple[OpSchema, tuple[int, int | None]]]:
    """Yield the schema of each version, with the opsets that have it."""
    found = _schemas()[node.op_type, node.domain]
    for index, schema in enumerate(found):
        last = found[index + 1].since_version - 1 if index + 1 < len(found) else None
        first = max(schema.since_version, FIRST_OPSET if not node.domain else 1)
        if not schema.deprecated and (last is None or last >= first):
            yield schema, (first, last)


@functools.cache
def _schemas() -> Mapping[tuple[str, str], Sequence[OpSchema]]:
    """Return all versions of each operator, in order."""
    found: dict[tuple[str, str], list[OpSchema]] = {}
    everything = onnx.defs.get_all_schemas_with_history()
    for schema in sorted(everything, key=lambda one: one.since_version):
        found.setdefault((schema.name, schema.domain), []).append(schema)
    return found


def _cast(
    node: onnx.NodeProto, version: OpSchema, inputs: dict[str, Array]
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield the inputs as they are, and cast to each other type of the first one's parameter."""
    first = next((name for name in node.input if name), "")
    if not first or first not in inputs:
        yield "no inputs", inputs
        return
    yield inputs[first].dtype.name, inputs
    index = [*node.input].index(first)
    parameter = _parameter(version, index)
    allowed = next(
        (c.allowed_type_strs for c in version.type_constraints if c.type_param_str == parameter), ()
    )
    if inputs[first].dtype.name not in DTYPES:
        return
    alike = [name for i, name in enumerate(node.input) if _parameter(version, i) == parameter]
    for dtype, named in DTYPES.items():
        if dtype != inputs[first].dtype.name and f"tensor({named})" in allowed:
            yield (
                dtype,
                {n: _as(array, dtype) if n in alike else array for n, array in inputs.items()},
            )


def _parameter(schema: OpSchema, index: int) -> str:
    """Return the type parameter of an input; empty, if the schema has no such input."""
    ports = schema.inputs
    if index < len(ports):
        return ports[index].type_str
    variadic = ports and ports[-1].option == OpSchema.FormalParameterOption.Variadic
    return ports[-1].type_str if variadic else ""


def _formal(schema: OpSchema, index: int) -> str:
    """Return the name that the schema gives an input."""
    return schema.inputs[min(index, len(schema.inputs) - 1)].name


def _as(array: Array, dtype: str) -> Array:
    """Return ``array`` in another type: integers are of some tens, unsigned ones magnitudes."""
    if dtype == "bool" or array.dtype == bool:
        return array.astype(bool).astype(dtype)
    if "int" in dtype and "int" not in array.dtype.name:
        known = np.nan_to_num(array.astype(np.float64), posinf=0, neginf=0)
        whole = np.clip(np.round(8 * known), -LARGEST_INTEGER, LARGEST_INTEGER)
        return (np.abs(whole) if dtype.startswith("u") else whole).astype(dtype)
    with np.errstate(all="ignore"):
        return array.astype(np.dtype(dtype))


def _stamped(
    model: onnx.ModelProto, schema: OpSchema, version: OpSchema, inputs: dict[str, Array]
) -> onnx.ModelProto | None:
    """Return the model at another version of its operator; None if that has no such node."""
    node = onnx.NodeProto()
    node.CopyFrom(model.graph.node[0])
    taken = [port.name for port in version.inputs]
    for index, name in reversed([*enumerate(node.input)]):
        formal = _formal(schema, index)
        attribute = RENAMED.get(formal, formal)
        if formal not in taken and attribute in version.attributes and name in inputs:
            node.attribute.append(_attribute(version.attributes[attribute], inputs[name]))
            del node.input[index]
    while node.input and not node.input[-1]:
        del node.input[-1]
    domain, opset = node.domain, max(version.since_version, FIRST_OPSET)
    opset = version.since_version if domain else opset
    imports = [helper.make_opsetid(domain, opset)]
    graph = helper.make_graph(
        [node],
        "node",
        [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(inputs[name].dtype),
                inputs[name].shape,
            )
            for name in dict.fromkeys(node.input)
            if name
        ],
        [onnx.ValueInfoProto(name=port.name) for port in model.graph.output],
    )
    made = helper.make_model(graph, opset_imports=imports)
    made.ir_version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    checked = onnx.ModelProto()
    checked.CopyFrom(made)
    for port, typed in zip(checked.graph.output, model.graph.output, strict=True):
        port.type.CopyFrom(typed.type)  # the checker wants one, and compares it with nothing
    try:
        onnx.checker.check_model(checked)
    except onnx.checker.ValidationError:
        return None
    return made


def _attribute(declared: OpSchema.Attribute, array: Array) -> AttributeProto:
    """Return the input as the attribute that it is at an earlier version."""
    kinds = OpSchema.AttrType
    whole = declared.type in (kinds.INT, kinds.INTS)
    single = declared.type in (kinds.INT, kinds.FLOAT)
    values = [int(v) if whole else float(v) for v in np.asarray(array).reshape(-1).tolist()]
    if single:
        return helper.make_attribute(declared.name, values[0])
    kind = AttributeProto.INTS if whole else AttributeProto.FLOATS
    return helper.make_attribute(declared.name, values, attr_type=kind)
