"""Requests and answers of POST /activate, from bytes to a call and from results to bytes.

Everything here is plain computation, so that a large request can be read and written in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from gatewave.service.activate.plan import Plan, check_size, elements_dtype
from gatewave.service.codecs import nested, safetensors, simd
from gatewave.service.codecs.datatypes import Array, DType
from gatewave.service.codecs.limits import check_count, check_fields
from gatewave.service.codecs.validation import from_pydantic
from gatewave.service.errors import (
    BodyMalformed,
    DeadlineExceeded,
    ModelFailed,
    Overloaded,
    RequestInvalid,
    ServiceError,
)
from gatewave.service.http.exchange import Body, Part
from gatewave.service.http.schemas import ActivateRequest, BatchRequest
from gatewave.service.observability.metrics import Span
from gatewave.service.quoting import Words
from gatewave.service.serving.pipeline import Inference
from gatewave.service.serving.request import InferenceRequest, Timing
from gatewave.service.state import ServiceState
from gatewave.service.system import cancellation
from gatewave.service.system.cancellation import CancelToken

METADATA_FIELDS = ("activation", "params", "dtype", "outputs")
FIELDS = frozenset(ActivateRequest.model_fields)
MAX_PLANS = 1024
DEFAULT_DTYPE: DType = "float32"
DEFAULT_OUTPUTS = ("y",)

Model = TypeVar("Model", bound=BaseModel)


class Reader:
    """Finds out what a body asks for.

    A plan is made once, by the complete validation, and kept by the words that asked for it.
    """

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.settings = state.settings
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def json(self, body: bytes, arrival: Timing | None = None) -> tuple[Plan, InferenceRequest]:
        """What a body in JSON asks for.

        Raises:
            RequestInvalid: The request is wrong in some field. Where it is clear which model is
                asked, that counts it.
        """
        arrival = arrival or Timing()
        with suppress(simd.NotPlain, RequestInvalid):
            return self.plain(body, arrival.deadline)
        # Not in the handler of that error: it would keep the document of simdjson.
        return self.document(parsed(body), arrival)

    def safetensors(
        self, body: Body, arrival: Timing | None = None
    ) -> tuple[Plan, InferenceRequest]:
        """What a file asks for, whose metadata hold all but the tensors.

        Raises:
            RequestInvalid: As `json`.
        """
        arrival = arrival or Timing()
        tensors, metadata = safetensors.decode(body, self.settings.max_rank)
        document = {**_from_metadata(metadata), "inputs": tensors}
        check_sizes(document)
        request = _validated(ActivateRequest, document)
        dtype = elements_dtype(tensors) if tensors else request.dtype
        if "dtype" in metadata and request.dtype != dtype:
            raise RequestInvalid.at("dtype", f"{dtype}, which the tensors are of", request.dtype)
        plan = self._plan(request, dtype)
        with plan.graph.meter.expecting(arrival.began):
            plan.check_names(list(tensors))
            return plan, self._call(plan, tensors, arrival.deadline)

    def document(
        self, document: Any, arrival: Timing | None = None
    ) -> tuple[Plan, InferenceRequest]:
        """What a document of JSON asks for.

        Raises:
            RequestInvalid: As `json`.
        """
        arrival = arrival or Timing()
        check_sizes(document)
        request = _validated(ActivateRequest, document)
        plan = self._plan(request, request.dtype)
        with plan.graph.meter.expecting(arrival.began):
            plan.check_names(list(request.inputs))
            return plan, self._call(plan, self._tensors(plan, request), arrival.deadline)

    def _tensors(self, plan: Plan, request: ActivateRequest) -> dict[str, Array]:
        decode = partial(
            nested.decode,
            max_rank=self.settings.max_rank,
            max_elements=self.settings.max_elements,
        )
        return {
            name: decode(request.inputs[name], request.dtype, f"inputs.{name}")
            for name in plan.graph.input_names
        }

    def batch(self, body: bytes) -> list[Any]:
        """The requests in a batch, each still to be read.

        Raises:
            RequestInvalid: The batch as such is wrong.
        """
        document = parsed(body)
        check_fields(document, "body")
        requests = document.get("requests") if isinstance(document, dict) else None
        if isinstance(requests, list):
            check_count(requests, self.settings.max_batch, "requests", "requests")
        cancellation.check()
        return _validated(BatchRequest, document).requests

    def plain(self, body: bytes, deadline: float | None = None) -> tuple[Plan, InferenceRequest]:
        """As `json`, for bodies that are plain and right, whose words were asked for before.

        Raises:
            NotPlain: Something is else.
        """
        document = simd.fields(simd.parse(body), FIELDS)
        outputs = simd.words(document["outputs"]) if "outputs" in document else DEFAULT_OUTPUTS
        params = simd.members(document["params"]) if "params" in document else {}
        dtype = document.get("dtype", DEFAULT_DTYPE)
        plan = self._plans.get(_key(document.get("activation"), params, dtype, outputs))
        inputs = simd.members(document.get("inputs"))
        if plan is None or inputs.keys() != set(plan.graph.input_names):
            raise simd.NotPlain
        dtype, most = plan.graph.dtype, self.settings.max_rank
        with simd.Numbers(body) as numbers:
            tensors = {name: numbers.take(value, dtype, most) for name, value in inputs.items()}
        numbers.finish(other="outputs" in document)
        return plan, self._call(plan, tensors, deadline)

    def _call(
        self, plan: Plan, tensors: Mapping[str, Array], deadline: float | None
    ) -> InferenceRequest:
        check_size(tensors, self.settings.max_elements)
        return plan.call(tensors, deadline)

    def _plan(self, request: ActivateRequest, dtype: DType) -> Plan:
        plan = Plan.make(
            self.state.catalogue,
            request.activation,
            params=request.params,
            dtype=dtype,
            outputs=request.outputs,
        )
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        key = _key(request.activation, request.params, dtype, tuple(request.outputs))
        self._plans[key] = plan
        return plan


def to_json(plan: Plan, outputs: Mapping[str, Array]) -> bytes:
    """The answer in JSON."""
    shape = orjson.dumps(next(iter(outputs.values())).shape)
    parts = [plan.head, b',"shape":', shape, b',"outputs":{']
    for name, array in outputs.items():
        parts += [b'"', name.encode(), b'":', nested.encode(array), b","]
    parts[-1] = b"}}"
    return b"".join(parts)


def to_safetensors(plan: Plan, outputs: Mapping[str, Array]) -> list[Part]:
    """The answer as a file: its header, and the tensors where they lie."""
    return safetensors.encode(outputs, plan.facts())


@dataclass(slots=True)
class Item:
    """One request of a batch, read.

    Attributes:
        decoding: When it was read.
    """

    plan: Plan
    call: InferenceRequest
    decoding: Span


def read_batch(reader: Reader, body: bytes, deadline: float | None) -> list[Item | bytes]:
    """The requests in a batch, or the problem of each that is wrong.

    Raises:
        RequestInvalid: The batch as such is wrong.
    """
    items = []
    for request in reader.batch(body):
        cancellation.check()
        items.append(_item(reader, request, deadline))
    return items


def _item(reader: Reader, request: Any, deadline: float | None) -> Item | bytes:
    arrival = Timing(deadline)
    try:
        plan, call = reader.document(request, arrival)
    except RequestInvalid as error:
        return _problem(error)
    return Item(plan, call, (arrival.began, time.perf_counter()))


def to_json_batch(inference: Inference, items: Sequence[Item | bytes], token: CancelToken) -> bytes:
    """Compute ``items``; return their answers, each a result or a problem, until cancelled."""
    answers = []
    for item in items:
        if token.is_cancelled:
            break
        answers.append(_answered(inference, item) if isinstance(item, Item) else item)
    return b'{"results":[' + b",".join(answers) + b"]}"


def _answered(inference: Inference, item: Item) -> bytes:
    call, (began, read) = item.call, item.decoding
    try:
        with call.model.meter.expecting(began):
            outputs = inference.now(call)
            computed = time.perf_counter()
            text = to_json(item.plan, outputs)
    except (DeadlineExceeded, ModelFailed, Overloaded) as error:
        return _problem(error)
    call.model.meter.answered(began, began, read, computed)
    return text


def _problem(error: ServiceError) -> bytes:
    return orjson.dumps({"problem": error.problem()})


def check_sizes(document: Any) -> None:
    """Refuse a request with too many fields, before pydantic reports an error for each.

    Raises:
        LimitExceeded: The request, its inputs or its parameters have too many.
    """
    check_fields(document, "body")
    if isinstance(document, dict):
        for name in ("inputs", "params"):
            check_fields(document.get(name), name)


def parsed(body: Body) -> Any:
    """The document in ``body``.

    Raises:
        BodyMalformed: It is not JSON.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyMalformed.at("body", "JSON", Words(error)) from error
    cancellation.check()
    return document


def _key(
    activation: Any, params: Mapping[str, Any], dtype: Any, outputs: tuple[str, ...]
) -> tuple[Any, ...]:
    """By what a plan is kept. The types go along: 1 and true are equal, and mean not the same."""
    given = tuple((n, type(v), v) for n, v in params.items()) if params else ()
    return activation, dtype, outputs, given


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a request, of which ``params`` and ``outputs`` are written in JSON."""
    fields: dict[str, Any] = {}
    for name, text in metadata.items():
        if name not in METADATA_FIELDS:
            expected = f"only {', '.join(METADATA_FIELDS)}"
            raise RequestInvalid.at(f"__metadata__.{name}", expected, name)
        fields[name] = text
        if name in {"params", "outputs"}:
            try:
                fields[name] = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise RequestInvalid.at(f"__metadata__.{name}", "JSON", text) from error
    return fields


def _validated(model: type[Model], document: Any) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise from_pydantic(error.errors(include_url=False)) from error
