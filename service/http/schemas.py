"""Schemas of requests and answers in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gatewave.service.activate.schemas import Tensor
from gatewave.service.codecs.datatypes import DType


class ActivateResponse(BaseModel):
    """Results of one evaluation, in the shape of its inputs."""

    activation: str
    formula: str = Field(description="What was computed, in LaTeX.")
    dtype: DType
    shape: list[int]
    outputs: dict[str, Tensor]
    provider: str = Field(description="ONNX Runtime's execution provider that computed it.")


class ProblemError(BaseModel):
    """Invalid field of a request."""

    field: str
    expected: str
    got: str


class ProblemDocument(BaseModel):
    """Problem document of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemError] | None = None
    request_id: str | None = None


class FailedItem(BaseModel):
    """Failed evaluation of a batch; the others are not affected."""

    problem: ProblemDocument


class BatchResponse(BaseModel):
    """Result or problem for each request, in order."""

    results: list[ActivateResponse | FailedItem]


class InferTensor(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    datatype: str = Field(description="BOOL, (U)INT8 to 64, FP16, BF16, FP32, FP64 or BYTES.")
    shape: list[int]
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data_size`: how many raw bytes it takes behind the JSON."
    )
    data: list[Any] | None = Field(
        default=None,
        description='Its values, flat or nested; "NaN", "Infinity" and "-Infinity" as words.',
    )


class InferOutput(BaseModel):
    """Requested output."""

    name: str
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data`: whether it is wanted as raw bytes."
    )


class InferBody(BaseModel):
    """An inference request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [0.5, 1]}]}
            ]
        }
    )

    id: str | None = None
    parameters: dict[str, Any] | None = Field(
        default=None,
        description="`timeout` in microseconds, `binary_data_output`, and the model's own numbers.",
    )
    inputs: list[InferTensor]
    outputs: list[InferOutput] | None = None


class InferResult(BaseModel):
    """The results of an inference request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferTensor]


class InferError(BaseModel):
    """An error, as the Open Inference Protocol has it."""

    error: str


class ParameterView(BaseModel):
    """A parameter of an activation."""

    name: str
    default: str | float
    description: str
    choices: list[str] = Field(description="The words it may be; empty for a real number.")


class BoundView(BaseModel):
    """An error bound: the greater of the two holds."""

    ulp: float = Field(description="In units in the last place of the dtype.")
    atol: float = Field(
        description="Absolute, times max(1, |x|) for each input that `scale` names."
    )


class FunctionView(BaseModel):
    """Formula of an activation for one choice of its word parameters."""

    choice: dict[str, str]
    op_type: str = Field(description="Its operator in the ONNX domain ai.gatewave.")
    formula: str
    derivatives: dict[str, str]
    parameters: dict[str, float] = Field(description="The scalar parameters it takes: defaults.")
    dtypes: list[DType]
    outputs: list[str]
    implementations: dict[str, dict[DType, str]] = Field(
        description="What computes it here, by graph (value, grad, vjp) and dtype: `native` and an "
        "instruction set; `function body`, that of its file, where there is no kernel; or "
        "`standard operators` where the file has no node of ours."
    )
    scale: list[str]
    bounds: dict[str, dict[DType, BoundView]] = Field(
        description="The largest errors, per output and dtype."
    )


class ActivationSummary(BaseModel):
    """Activation in one line."""

    name: str
    title: str
    summary: str
    inputs: list[str]
    formulas: list[str]
    implementations: list[str] = Field(
        description="What computes its graphs here; mostly all are alike."
    )
    href: str


class ActivationList(BaseModel):
    """List of all activations."""

    activations: list[ActivationSummary]


class ActivationView(BaseModel):
    """Record of an activation."""

    name: str
    title: str
    summary: str
    source: str
    inputs: list[str]
    parameters: list[ParameterView]
    functions: list[FunctionView]
    properties: list[str]
    uses: list[str]
    limits: list[str]
    example: dict[str, Any] = Field(description="A body for POST /activate.")


class Liveness(BaseModel):
    """Liveness of the process."""

    status: str


class ReadinessOfModels(BaseModel):
    """Models of the repository that do not answer yet."""

    loading: list[str] = Field(description="Models that are being tried, or will be tried.")


class Readiness(BaseModel):
    """State of the service, and its compute device."""

    status: str = Field(description="`ready`, `loading` or `draining`.")
    device: str = Field(description="What was asked for: auto, cpu or cuda.")
    provider: str = Field(description="What computes.")
    kernels: str = Field(
        description="What computes nodes of ours: `native` and an instruction set, or `function "
        "body`. GET /activations tells it of each."
    )
    threads: int
    activations: list[str]
    models: ReadinessOfModels
