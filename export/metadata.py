"""The record as the artifacts carry it: everything the service knows of an activation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import onnx_ir as ir
import sympy
import torch

from gatewave.export.accuracy import certify, reference
from gatewave.export.operators import Form
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import Graph
from gatewave.models import Activation, DType, Operator, Tolerance

KEY = "ai.gatewave.activation"
SCHEMA = 1


def describe(
    model: ir.Model,
    activation: Activation,
    operator: Operator,
    *,
    graph: Graph,
    dtype: DType,
    form: Form,
) -> None:
    """Write the record into the model's metadata, for people and, as JSON, for programs."""
    document = {
        "schema": SCHEMA,
        "activation": _activation(activation),
        "operator": _operator(activation, operator),
        "graph": graph,
        "dtype": dtype,
        "form": form,
        "inputs": signature.inputs(activation, graph),
        "outputs": signature.outputs(activation, graph),
        "tolerances": {
            name: asdict(certify.tolerance_of(operator, name, dtype))
            for name in signature.outputs(activation, graph)
        },
        "example": example(activation, operator, graph, dtype),
    }
    model.metadata_props.update(
        {
            KEY: json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")),
            "name": activation.name,
            "formula": formula(activation, operator),
            "source": activation.source,
        }
    )


def formula(activation: Activation, operator: Operator) -> str:
    """The definition in LaTeX, with its name and arguments on the left."""
    arguments = ", ".join((*activation.inputs, *(rf"\{real}" for real in operator.reals)))
    name = activation.name.replace("_", r"\_")
    return rf"\operatorname{{{name}}}({arguments}) = {sympy.latex(activation.expression(operator))}"


def derivatives(activation: Activation, operator: Operator) -> dict[str, str]:
    """The partial derivatives in LaTeX, by the name that outputs give them."""
    return {
        f"dy_d{name}": rf"\frac{{\partial y}}{{\partial {name}}} = "
        + sympy.latex(sympy.diff(activation.expression(operator), sympy.Symbol(name, real=True)))
        for name in activation.inputs
    }


def example(
    activation: Activation, operator: Operator, graph: Graph, dtype: DType
) -> dict[str, dict[str, list[float]]]:
    """The record's example in ``dtype``, its exact results and its tolerance."""
    kind = getattr(torch, dtype)
    points = torch.tensor(list(activation.example.values()), dtype=kind)
    names = signature.inputs(activation, graph)
    inputs = dict(zip(names, [*points, torch.ones_like(points[0])], strict=False))
    results = reference.exact(activation, operator, graph, list(inputs.values()))
    outputs = dict(zip(signature.outputs(activation, graph), results, strict=True))
    scale = certify.scale_of(operator, inputs)
    allowed = {
        name: certify.allowance(
            result.high, certify.tolerance_of(operator, name, dtype), scale, torch.finfo(kind)
        )
        for name, result in outputs.items()
    }
    return {
        "inputs": {name: tensor.tolist() for name, tensor in inputs.items()},
        "outputs": {name: result.high.tolist() for name, result in outputs.items()},
        "allowed": {name: error.tolist() for name, error in allowed.items()},
    }


def _activation(activation: Activation) -> dict[str, Any]:
    return {
        "name": activation.name,
        "title": activation.title,
        "summary": activation.summary,
        "source": activation.source,
        "inputs": activation.inputs,
        "parameters": [asdict(parameter) for parameter in activation.parameters],
        "plot_range": activation.plot_range,
        "domain": None if math.isinf(activation.domain[0]) else activation.domain,
        "properties": activation.properties,
        "uses": activation.uses,
        "limits": activation.limits,
    }


def _operator(activation: Activation, operator: Operator) -> dict[str, Any]:
    return {
        "stem": activation.stem(operator),
        "op_type": operator.op_type,
        "choice": dict(operator.choice),
        "reals": activation.defaults(operator),
        "formula": formula(activation, operator),
        "derivatives": derivatives(activation, operator),
        "scale": operator.scale,
        "bounds": {"y": _bounds(operator.tolerances)}
        | {f"dy_d{name}": _bounds(operator.derivative_tolerances) for name in activation.inputs},
    }


def _bounds(tolerances: Mapping[DType, Tolerance]) -> dict[DType, dict[str, float]]:
    return {dtype: asdict(tolerance) for dtype, tolerance in tolerances.items()}
