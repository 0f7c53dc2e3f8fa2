"""Check of nodes against their operators' schemas: number of inputs, and types of attributes.

Rewriting relies on valid nodes: a lowering takes the inputs that the schema requires. An invalid
node is refused before, by name. Unknown operators are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.errors import ModelError
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_OPERATORS
from gatewave.graphs.rewrite.lower.lowerings import CONTRIB, identifier_of, tensors_of

MAX_SAID = 3

CONTRIBUTED: Mapping[str, tuple[int, int]] = {
    "QuickGelu": (1, 1),
    "Gelu": (1, 1),
    "BiasGelu": (2, 2),
    "FastGelu": (1, 2),
    "SwiGLU": (1, 2),
}
"""Least and greatest number of inputs of the contributed operators that have a lowering."""

NUMBERS = ("alpha", "limit", "activation_alpha", "activation_beta")
"""Attributes of contributed operators that are floats."""

FLOAT = ir.AttributeType.FLOAT

CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {("Gelu", "approximate"): ("none", "tanh")}
"""Allowed values of attributes."""


@dataclass(frozen=True)
class _Wanted:
    """Requirements of an operator on its nodes.

    Attributes:
        least: Least number of inputs.
        most: Greatest number of inputs.
        outputs: Greatest number of outputs; the least is one.
        required: Numbers of the inputs that may not be omitted.
        attributes: The types of the attributes that are known.
    """

    least: int
    most: int
    outputs: int
    required: tuple[int, ...]
    attributes: Mapping[str, ir.AttributeType]


def check(model: ir.Model) -> None:
    """Check the nodes of ``model``, in bodies and functions, too.

    Raises:
        ModelError: A node does not fit its operator's schema; the message names both.
    """
    wrong = [
        f"{_place(scope, node)} {why}"
        for scope in scopes(model)
        for node in scope.graph
        if node.op_identifier() not in model.functions
        for why in _wrong(node, scope)
    ]
    if wrong:
        more = f"; and {len(wrong) - MAX_SAID} more" if len(wrong) > MAX_SAID else ""
        raise ModelError("; ".join(wrong[:MAX_SAID]) + more)


def _place(scope: Scope, node: ir.Node) -> str:
    named = node.name or (node.outputs[0].name if node.outputs else "")
    name = "::".join(part for part in identifier_of(node) if part)
    where = f" in {scope.name}" if scope.name else ""
    return f"{name} {named!r}{where}" if named else f"{name}{where}"


def _wrong(node: ir.Node, scope: Scope) -> Iterator[str]:
    wanted = _wanted(node, scope)
    if wanted is None:
        return
    count = len(node.inputs)
    if not wanted.least <= count <= wanted.most:
        most = "" if wanted.most == wanted.least else f" to {wanted.most}"
        yield f"has {count} inputs, and should have {wanted.least}{most}"
    elif any(node.inputs[index] is None for index in wanted.required if index < count):
        yield "lacks an input that it needs"
    if not 1 <= len(node.outputs) <= wanted.outputs:
        most = "" if wanted.outputs == 1 else f" to {wanted.outputs}"
        yield f"has {len(node.outputs)} outputs, and should have 1{most}"
    for attribute in node.attributes.values():
        kind = wanted.attributes.get(attribute.name, attribute.type)
        if attribute.type != kind:
            yield f"has {attribute.name} as {attribute.type.name}, and should have {kind.name}"
            continue
        choices = CHOICES.get((node.op_type, attribute.name))
        if choices and not attribute.is_ref() and attribute.value not in choices:
            said = " or ".join(choices)
            yield f"has {attribute.name} {attribute.value!r}, and should have {said}"


def _wanted(node: ir.Node, scope: Scope) -> _Wanted | None:
    """Return the requirements of the node's operator; None if they are not known."""
    domain, name = identifier_of(node)
    if domain == DOMAIN and name in DOMAIN_OPERATORS:
        activation, operator, graph = DOMAIN_OPERATORS[name]
        count = tensors_of(node)
        reals = {**activation.defaults(operator)}
        outputs = len(signature.outputs(activation, graph))
        kinds = dict.fromkeys(reals, FLOAT)
        return _Wanted(count, count + len(reals), outputs, tuple(range(count)), kinds)
    if domain == CONTRIB and name in CONTRIBUTED:
        least, most = CONTRIBUTED[name]
        return _Wanted(least, most, 1, tuple(range(least)), dict.fromkeys(NUMBERS, FLOAT))
    return None if domain else _standard(name, scope.opset)


def _standard(name: str, opset: int) -> _Wanted | None:
    try:
        schema: Any = onnx.defs.get_schema(name, opset, "")  # its stub lacks the types' values
    except onnx.defs.SchemaError:
        return None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    required = tuple(index for index, port in enumerate(schema.inputs) if port.option == single)
    kinds = {key: ir.AttributeType(a.type.value) for key, a in schema.attributes.items()}
    return _Wanted(schema.min_input, schema.max_input, schema.max_output, required, kinds)
