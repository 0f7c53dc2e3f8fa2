"""What the endpoints take and give, as OpenAPI shows it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, WithJsonSchema

from gatewave.service.codecs.datatypes import DType

TENSOR_SCHEMA = {
    "title": "Tensor",
    "description": 'A number, "NaN", "Infinity", "-Infinity", or nested lists of these, '
    "all of one length at each depth.",
    "anyOf": [
        {"type": "number"},
        {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
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
    """A model that refuses fields that it does not know, and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ActivateRequest(Closed):
    """One evaluation."""

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


class ActivateResponse(BaseModel):
    """The results of one evaluation, in the shape of its inputs."""

    activation: str
    formula: str = Field(description="What was computed, in LaTeX.")
    dtype: DType
    shape: list[int]
    outputs: dict[str, Tensor]
    provider: str = Field(description="ONNX Runtime's execution provider that computed it.")


class BatchRequest(Closed):
    """Many independent evaluations."""

    # Each is validated by itself, later, so that a wrong one fails alone.
    requests: list[SkipValidation[ActivateRequest]]


class ProblemError(BaseModel):
    """One field that is wrong."""

    field: str
    expected: str
    got: str


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemError] | None = None
    request_id: str | None = None


class FailedItem(BaseModel):
    """An evaluation of a batch that could not be done; the others were."""

    problem: ProblemDocument


class BatchResponse(BaseModel):
    """A result or a problem for each request, in order."""

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
    """An output that is wanted."""

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
    """What an activation computes for one choice of its words."""

    choice: dict[str, str]
    op_type: str = Field(description="Its operator in the ONNX domain ai.gatewave.")
    formula: str
    derivatives: dict[str, str]
    parameters: dict[str, float] = Field(description="The real parameters it takes: defaults.")
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
    """An activation, in a line."""

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
    """All activations that can be evaluated."""

    activations: list[ActivationSummary]


class ActivationView(BaseModel):
    """An activation's record."""

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
    """The process runs."""

    status: str


class ReadinessOfModels(BaseModel):
    """Models of the repository that do not answer yet."""

    loading: list[str] = Field(description="Models that are being tried, or will be tried.")


class Readiness(BaseModel):
    """State of the service, and what it computes with."""

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
