"""Requests and responses of POST /activate, from bytes to bytes, in each media type.

Everything here is plain computation on bytes, so that a large request can be answered in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from service import problems
from service.activate import Plan, Results, elements_dtype, evaluate
from service.catalogue import Catalogue
from service.codecs import nested, safetensors
from service.errors import (
    BodyMalformed,
    LimitExceeded,
    MediaTypeUnacceptable,
    MediaTypeUnsupported,
    RequestInvalid,
    Words,
    from_pydantic,
)
from service.schemas import ActivateRequest, BatchRequest
from service.settings import Settings

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"
MEDIA_TYPES = (JSON, SAFETENSORS)
METADATA_FIELDS = ("activation", "params", "dtype", "outputs")

Model = TypeVar("Model", bound=BaseModel)


class Answerer:
    """Answers the bodies of POST /activate and /activate/batch."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self.catalogue = catalogue
        self.settings = settings

    def activate(self, body: bytes, content_type: str, accept: str) -> bytes:
        """The answer to one evaluation, in the media type ``accept``.

        Raises:
            RequestInvalid: The request is wrong in some field.
        """
        read = self.from_safetensors if content_type == SAFETENSORS else self.from_json
        results = read(body)
        return to_safetensors(results) if accept == SAFETENSORS else orjson.dumps(to_json(results))

    def batch(self, body: bytes) -> bytes:
        """The answers to many evaluations, each with its result or its problem.

        Raises:
            RequestInvalid: The batch as such is wrong.
        """
        requests = _validated(BatchRequest, _parsed(body)).requests
        most = self.settings.max_batch
        if len(requests) > most:
            raise LimitExceeded.at("requests", f"at most {most} requests", len(requests))
        return orjson.dumps({"results": [self._item(request) for request in requests]})

    def from_json(self, body: bytes) -> Results:
        return self._evaluate(_parsed(body))

    def from_safetensors(self, body: bytes) -> Results:
        """Evaluate the tensors of a file, whose metadata hold the rest of the request."""
        tensors, metadata = safetensors.decode(body, self.settings.max_rank)
        request = _validated(ActivateRequest, {**_from_metadata(metadata), "inputs": tensors})
        dtype = elements_dtype(tensors) if tensors else request.dtype
        if "dtype" in metadata and request.dtype != dtype:
            raise RequestInvalid.at("dtype", f"{dtype}, which the tensors are of", request.dtype)
        plan = self._plan(request.model_copy(update={"dtype": dtype}))
        return evaluate(plan, tensors, lambda _, tensor: tensor, self.settings.max_elements)

    def _item(self, request: Any) -> dict[str, Any]:
        try:
            return to_json(self._evaluate(request))
        except RequestInvalid as error:
            return {"problem": problems.describe(error)}

    def _evaluate(self, document: Any) -> Results:
        request = _validated(ActivateRequest, document)
        decode = partial(self._decoded, request)
        return evaluate(self._plan(request), request.inputs, decode, self.settings.max_elements)

    def _decoded(self, request: ActivateRequest, name: str, value: Any) -> Any:
        limits = self.settings.max_rank, self.settings.max_elements
        return nested.decode(value, request.dtype, f"inputs.{name}", *limits)

    def _plan(self, request: ActivateRequest) -> Plan:
        return Plan.make(
            self.catalogue,
            request.activation,
            params=request.params,
            dtype=request.dtype,
            outputs=request.outputs,
        )


def to_json(results: Results) -> dict[str, Any]:
    outputs = {name: nested.encode(array) for name, array in results.outputs.items()}
    return {**results.facts(), "outputs": outputs}


def to_safetensors(results: Results) -> bytes:
    facts = results.facts()
    metadata = {name: facts[name] for name in ("activation", "formula", "dtype", "provider")}
    return safetensors.encode(results.outputs, metadata)


def content_type(header: str | None, allowed: tuple[str, ...] = MEDIA_TYPES) -> str:
    """The media type of a body.

    Raises:
        MediaTypeUnsupported: It is none of those ``allowed``; no header at all means JSON.
    """
    kind = (header or JSON).partition(";")[0].strip().lower()
    if kind not in allowed:
        raise MediaTypeUnsupported.at("Content-Type", f"one of {', '.join(allowed)}", kind)
    return kind


def accepted(header: str | None, default: str, offered: tuple[str, ...] = MEDIA_TYPES) -> str:
    """The media type to answer in: the first that is accepted, ``default`` before others.

    Raises:
        MediaTypeUnacceptable: None of ours is accepted.
    """
    weights = dict(map(_weight, header.split(","))) if header else {"*/*": 1.0}
    candidates = sorted(offered, key=lambda kind: kind != default)
    best = max(candidates, key=lambda kind: _preference(kind, weights))
    if _preference(best, weights) <= 0:
        raise MediaTypeUnacceptable.at("Accept", f"one of {', '.join(offered)}", header)
    return best


def _weight(media_range: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        number = float(quality)
    except ValueError:
        number = 0.0
    return kind, number if 0 <= number <= 1 else 0.0


def _preference(kind: str, weights: Mapping[str, float]) -> float:
    family = kind.partition("/")[0] + "/*"
    return next((weights[k] for k in (kind, family, "*/*") if k in weights), 0.0)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyMalformed.at("body", "JSON", Words(error)) from error


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
