"""The Open Inference Protocol over HTTP, as a protocol of the inference pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from gatewave.service.codecs.bodies import JSON, OCTETS, Body
from gatewave.service.codecs.datatypes import Array
from gatewave.service.codecs.nested import memory_of_lists
from gatewave.service.errors import BodyTooLong
from gatewave.service.oip import json
from gatewave.service.oip.json import Bounds, Envelope, InferRequest
from gatewave.service.oip.requests import call_of, deadline
from gatewave.service.serving.model import Model
from gatewave.service.serving.pipeline import READ_WEIGHT, TEXT_WEIGHT
from gatewave.service.serving.protocol import (
    Answer,
    Decoded,
    Decoding,
    InferenceProtocol,
    Stage,
    TextStage,
)
from gatewave.service.serving.request import Timing
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState

STRING_WEIGHT = 64
"""Bytes of plain text that take as long to read as one raw string."""
JSON_TYPE = JSON.encode()
OCTETS_TYPE = OCTETS.encode()


class InferLimits(NamedTuple):
    """Limits of the settings, read once: pydantic's attributes take time in each request.

    Attributes:
        bounds: Limits on the tensors.
        json_bytes: The greatest length of JSON in one body.
    """

    bounds: Bounds
    json_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> InferLimits:
        """Return the limits in ``settings``."""
        json_bytes = min(settings.max_json_bytes, settings.max_body_bytes)
        return cls(Bounds(settings.max_rank, settings.max_elements), json_bytes)


class InferProtocol(InferenceProtocol[InferRequest, Answer]):
    """Protocol of one inference request.

    Args:
        state: The state of the service.
        limits: The limits of the settings.
        model: The model that the path names.
        json_length: The header with the length of the JSON, for bodies with raw tensors.
    """

    def __init__(
        self, state: ServiceState, limits: InferLimits, model: Model, json_length: bytes | None
    ) -> None:
        self.state = state
        self.limits = limits
        self.model = model
        self.json_length = json_length

    def decode(self, body: Body, timing: Timing) -> Decoding[InferRequest]:
        timing.model = self.model
        length = json.header_length(self.json_length, len(body))
        text = len(body) if length is None else length
        most = self.limits.json_bytes
        if text > most:
            raise BodyTooLong.at("body", f"at most {most} bytes of JSON", text)
        if length is None:
            return TextStage(bytes(body), timing, self._plain, self._complete)
        if length == 0:
            memory = json.memory_of_whole(body, self.model)
            return Stage(len(body) if memory else 0, partial(self._whole, body, timing), memory)
        memory = memory_of_lists(bytes(body[:length]))
        return Stage(length * READ_WEIGHT, partial(self._opened, body, length, timing), memory)

    def encode(self, decoded: Decoded[InferRequest], outputs: Mapping[str, Array]) -> Answer:
        request, call = decoded.source, decoded.call
        parts = json.encode(request, call, outputs)
        is_raw = any(request.raw.values()) if request.raw else request.all_raw
        if not is_raw:
            return Answer(JSON_TYPE, parts)
        return Answer(OCTETS_TYPE, parts, ((json.LENGTH_HEADER, b"%d" % len(parts[0])),))

    def result_weight(self, decoded: Decoded[InferRequest]) -> int:
        request, call = decoded.source, decoded.call
        return 1 if all(map(request.is_raw, call.outputs)) else TEXT_WEIGHT

    def encoding_size(self, decoded: Decoded[InferRequest], outputs: Mapping[str, Array]) -> int:
        return decoded.source.written(outputs)

    def _plain(self, text: bytes, timing: Timing) -> Decoded[InferRequest]:
        return self._checked(json.plain(text, self.limits.bounds.max_rank), timing)

    def _complete(self, text: bytes, timing: Timing) -> Decoded[InferRequest]:
        return self._checked(json.complete(text, self.model, self.limits.bounds), timing)

    def _whole(self, body: Body, timing: Timing) -> Decoded[InferRequest]:
        return self._checked(json.whole(body, self.model, self.limits.bounds), timing)

    def _opened(self, body: Body, length: int, timing: Timing) -> Stage[InferRequest]:
        """Read the JSON before the raw tensors: it tells the cost of the strings among them."""
        envelope = json.opened(body, length)
        strings = min(envelope.strings * STRING_WEIGHT, len(body) * READ_WEIGHT)
        unpack = partial(self._unpacked, envelope, timing)
        return Stage(length * READ_WEIGHT + strings, unpack, envelope.memory)

    def _unpacked(self, envelope: Envelope, timing: Timing) -> Decoded[InferRequest]:
        return self._checked(json.unpacked(envelope, self.model, self.limits.bounds), timing)

    def _checked(self, request: InferRequest, timing: Timing) -> Decoded[InferRequest]:
        parameters = request.parameters
        due = timing.deadline
        if parameters:
            due = deadline(self.state, parameters, timing.arrival())
        wanted = list(request.raw)
        call = call_of(self.state, self.model, request.inputs, wanted, parameters, due)
        return Decoded(request, call)
