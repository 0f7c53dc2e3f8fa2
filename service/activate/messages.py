"""Bodies of POST /activate: from bytes to a checked request, and from results to bytes.

All functions are plain computation, so that large bodies can be read and written in threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from gatewave.service.activate.plan import Plan, elements_dtype
from gatewave.service.activate.schemas import ActivateRequest, BatchRequest
from gatewave.service.codecs import nested, safetensors, simd
from gatewave.service.codecs.bodies import Body, Part
from gatewave.service.codecs.count_limits import check_count, check_elements, check_fields
from gatewave.service.codecs.datatypes import Array, DType
from gatewave.service.codecs.documents import parsed
from gatewave.service.codecs.validation import from_pydantic
from gatewave.service.errors import RequestInvalid
from gatewave.service.serving.protocol import Decoded
from gatewave.service.serving.request import Timing
from gatewave.service.state import ServiceState
from gatewave.service.system import cancellation

METADATA_FIELDS = ("activation", "params", "dtype", "outputs")
FIELDS = frozenset(ActivateRequest.model_fields)
MAX_PLANS = 1024
DEFAULT_DTYPE: DType = "float32"
DEFAULT_OUTPUTS = ("y",)

Model = TypeVar("Model", bound=BaseModel)


class BodyReader:
    """Reader of bodies.

    The complete validation makes a plan once. Later requests for the same activation, parameters,
    dtype and outputs find it, and need no validation of these fields.
    """

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.settings = state.settings
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def safetensors(self, body: Body, timing: Timing | None = None) -> Decoded[Plan]:
        """Return the request in a safetensors file, whose metadata hold the fields but the tensors.

        Raises:
            RequestInvalid: A field is invalid.
        """
        timing = timing or Timing()
        tensors, metadata = safetensors.decode(body, self.settings.max_rank)
        document = {**_from_metadata(metadata), "inputs": tensors}
        check_sizes(document)
        request = _validated(ActivateRequest, document)
        dtype = elements_dtype(tensors) if tensors else request.dtype
        if "dtype" in metadata and request.dtype != dtype:
            raise RequestInvalid.at("dtype", f"{dtype}, which the tensors are of", request.dtype)
        plan = self._plan(request, dtype)
        timing.model = plan.graph
        plan.check_names(list(tensors))
        return self._decoded(plan, tensors, timing.deadline)

    def document(self, document: Any, timing: Timing | None = None) -> Decoded[Plan]:
        """Return the request in a parsed JSON document.

        Raises:
            RequestInvalid: A field is invalid.
        """
        timing = timing or Timing()
        check_sizes(document)
        request = _validated(ActivateRequest, document)
        plan = self._plan(request, request.dtype)
        timing.model = plan.graph
        plan.check_names(list(request.inputs))
        return self._decoded(plan, self._tensors(plan, request), timing.deadline)

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
        """Return the documents in a batch; each is validated later.

        Raises:
            RequestInvalid: The batch as a whole is invalid.
        """
        document = parsed(body)
        check_fields(document, "body")
        requests = document.get("requests") if isinstance(document, dict) else None
        if isinstance(requests, list):
            check_count(requests, self.settings.max_batch, "requests", "requests")
        cancellation.check()
        return _validated(BatchRequest, document).requests

    def plain(self, body: bytes, deadline: float | None = None) -> Decoded[Plan]:
        """Return the request in a plain JSON body, for which there is a plan already.

        Raises:
            NotPlain: The body has anything else in it, or there is no plan.
            RequestInvalid: The tensors do not fit the plan.
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
        with simd.ArrayReader(body) as numbers:
            tensors = {name: numbers.take(value, dtype, most) for name, value in inputs.items()}
        numbers.finish(other="outputs" in document)
        return self._decoded(plan, tensors, deadline)

    def _decoded(
        self, plan: Plan, tensors: Mapping[str, Array], deadline: float | None
    ) -> Decoded[Plan]:
        count = sum([tensor.size for tensor in tensors.values()])
        check_elements(count, self.settings.max_elements)
        return Decoded(plan, plan.call(tensors, deadline))

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
    """Return the answer in JSON."""
    shape = orjson.dumps(next(iter(outputs.values())).shape)
    parts = [plan.head, b',"shape":', shape, b',"outputs":{']
    for name, array in outputs.items():
        parts += [b'"', name.encode(), b'":', nested.encode(array), b","]
    parts[-1] = b"}}"
    return b"".join(parts)


def to_safetensors(plan: Plan, outputs: Mapping[str, Array]) -> list[Part]:
    """Return the answer as a safetensors file: its header, and views of the tensors."""
    return safetensors.encode(outputs, plan.facts())


def check_sizes(document: Any) -> None:
    """Refuse a request with too many fields, before pydantic reports an error for each.

    Raises:
        LimitExceeded: The request, its inputs or its parameters have too many fields.
    """
    check_fields(document, "body")
    if isinstance(document, dict):
        for name in ("inputs", "params"):
            check_fields(document.get(name), name)


def _key(
    activation: Any, params: Mapping[str, Any], dtype: Any, outputs: tuple[str, ...]
) -> tuple[Any, ...]:
    """Return the key of a plan. It has the types too, because 1 and true are equal in Python."""
    given = tuple((n, type(v), v) for n, v in params.items()) if params else ()
    return activation, dtype, outputs, given


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a request; the values of ``params`` and ``outputs`` are in JSON."""
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
