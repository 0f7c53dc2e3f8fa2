"""Schemas of the requests of POST /activate, which validate them and document them in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, WithJsonSchema

from gatewave.service.codecs.datatypes import DType
from gatewave.service.codecs.nonfinite import WORDS

TENSOR_SCHEMA = {
    "title": "Tensor",
    "description": 'A number, "NaN", "Infinity", "-Infinity", or nested lists of these, '
    "all of one length at each depth.",
    "anyOf": [
        {"type": "number"},
        {"type": "string", "enum": list(WORDS)},
        {"type": "array", "items": {}},
    ],
}

Tensor = Annotated[Any, WithJsonSchema(TENSOR_SCHEMA)]
Parameter = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})]
Name = Annotated[str, Field(max_length=64)]

EXAMPLE_REQUEST: dict[str, Any] = {
    "activation": "swiglu",
    "inputs": {"a": [0.5, -1, 2, -2], "b": [1, -1, 0, 2]},
    "outputs": ["y", "dy_da", "dy_db"],
}


class Closed(BaseModel):
    """Schema without unknown fields and without conversions of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ActivateRequest(Closed):
    """Request for one evaluation."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_REQUEST]})

    activation: Name = Field(description="Which activation; GET /activations lists them.")
    inputs: dict[Name, Tensor] = Field(
        description="Its tensors by name, all of one shape: any number of axes, empty ones too. "
        "For the outputs grad_…, the gradient of the output goes along as grad_y."
    )
    params: dict[Name, Parameter] = Field(
        default_factory=dict, description="Its parameters, where they differ from the defaults."
    )
    dtype: DType = Field(default="float32", description="What the numbers are rounded to.")
    outputs: list[Name] = Field(
        default_factory=lambda: ["y"],
        min_length=1,
        max_length=16,
        description="What to compute: the value y, the partial derivatives dy_d…, or the "
        "gradients of the inputs, grad_…. By default the value alone.",
    )


class BatchRequest(Closed):
    """Request for many independent evaluations."""

    # Each request is validated by itself, later, so that an invalid one fails alone.
    requests: list[SkipValidation[ActivateRequest]]
