"""Inputs and outputs of an activation's graphs, by the names that files, HTTP and ONNX share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from gatewave.models import Activation, Operator
from gatewave.models.catalogue import OPERATORS

DOMAIN = "ai.gatewave"
DOMAIN_VERSION = 1

Graph = Literal["value", "grad", "vjp"]
"""The value; the value and all partial derivatives; or the vector-Jacobian product.

The last is for a backward pass: the gradient of the inputs, given that of the output.
"""
GRAPHS: tuple[Graph, ...] = get_args(Graph)

SUFFIXES: dict[Graph, str] = {"value": "", "grad": "ValueAndGrad", "vjp": "VJP"}


def op_type(operator: Operator, graph: Graph) -> str:
    return operator.op_type + SUFFIXES[graph]


DOMAIN_OPERATORS: Mapping[str, tuple[Activation, Operator, Graph]] = MappingProxyType(
    {
        op_type(operator, graph): (activation, operator, graph)
        for activation, operator in OPERATORS.values()
        for graph in GRAPHS
    }
)
"""Every operator type of our domain, with the record, the operator and the graph it stands for."""


def inputs(activation: Activation, graph: Graph) -> tuple[str, ...]:
    return (*activation.inputs, "grad_y") if graph == "vjp" else activation.inputs


def outputs(activation: Activation, graph: Graph) -> tuple[str, ...]:
    names = activation.inputs
    return {
        "value": ("y",),
        "grad": ("y", *(f"dy_d{name}" for name in names)),
        "vjp": tuple(f"grad_{name}" for name in names),
    }[graph]


def function(operator: Operator, graph: Graph) -> Callable[..., tuple[Any, ...]]:
    """Return the function ``(op, *inputs, **reals)`` of ``graph``, from the decompositions."""

    def value(op: Any, *tensors: Any, **reals: Any) -> tuple[Any, ...]:
        return (operator.value(op, *tensors, **reals),)

    def grad(op: Any, *tensors: Any, **reals: Any) -> tuple[Any, ...]:
        return (*value(op, *tensors, **reals), *operator.partials(op, *tensors, **reals))

    def vjp(op: Any, *tensors: Any, **reals: Any) -> tuple[Any, ...]:
        *primals, grad_y = tensors
        return tuple(op.Mul(grad_y, p) for p in operator.partials(op, *primals, **reals))

    return {"value": value, "grad": grad, "vjp": vjp}[graph]
