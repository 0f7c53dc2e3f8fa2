"""Protocol of POST /activate: JSON or safetensors, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gatewave.service.activate.messages import BodyReader, to_json, to_safetensors
from gatewave.service.activate.plan import Plan
from gatewave.service.codecs.bodies import JSON, SAFETENSORS, Body
from gatewave.service.codecs.datatypes import Array
from gatewave.service.codecs.documents import parsed
from gatewave.service.codecs.simd import NotPlain
from gatewave.service.errors import RequestInvalid
from gatewave.service.serving.pipeline import TEXT_WEIGHT
from gatewave.service.serving.protocol import (
    Answer,
    Decoded,
    Decoding,
    InferenceProtocol,
    Stage,
    TextStage,
)
from gatewave.service.serving.request import Timing


class ActivateProtocol(InferenceProtocol[Plan, Answer]):
    """Protocol of one request for an activation.

    Args:
        reader: Reader of bodies, with the plans of earlier requests.
        media_type: The media type of the body.
        accepted: The media type of the answer.
    """

    def __init__(self, reader: BodyReader, media_type: str = JSON, accepted: str = JSON) -> None:
        self.reader = reader
        self.media_type = media_type
        self.accepted = accepted.encode()
        self._is_json = accepted == JSON

    def decode(self, body: Body, timing: Timing) -> Decoding[Plan]:
        if self.media_type == SAFETENSORS:
            # The tensors are views of the body, and the header of the file is short.
            return Stage(0, partial(self.reader.safetensors, body, timing))
        return TextStage(bytes(body), timing, self._plain, self._complete)

    def encode(self, decoded: Decoded[Plan], outputs: Mapping[str, Array]) -> Answer:
        if self._is_json:
            return Answer(self.accepted, (to_json(decoded.source, outputs),))
        return Answer(self.accepted, to_safetensors(decoded.source, outputs))

    def result_weight(self, decoded: Decoded[Plan]) -> int:  # noqa: ARG002 - as the interface
        return TEXT_WEIGHT if self._is_json else 1

    def encoding_size(
        self,
        decoded: Decoded[Plan],  # noqa: ARG002 - as the interface
        outputs: Mapping[str, Array],
    ) -> int:
        return sum(output.nbytes for output in outputs.values()) if self._is_json else 0

    def _plain(self, text: bytes, timing: Timing) -> Decoded[Plan]:
        try:
            return self.reader.plain(text, timing.deadline)
        except RequestInvalid as error:
            # The complete reader finds the same error, and names the field.
            raise NotPlain from error

    def _complete(self, text: bytes, timing: Timing) -> Decoded[Plan]:
        return self.reader.document(parsed(text), timing)
