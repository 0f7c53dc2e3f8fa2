"""ModelInfer of gRPC, as a protocol of the inference pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gatewave.service.codecs.bodies import Body
from gatewave.service.codecs.count_limits import check_elements
from gatewave.service.codecs.datatypes import Array
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc import messages
from gatewave.service.oip.requests import call_of, deadline
from gatewave.service.serving.model import Model
from gatewave.service.serving.pipeline import READ_WEIGHT
from gatewave.service.serving.protocol import Decoded, Decoding, InferenceProtocol, Stage
from gatewave.service.serving.request import Timing
from gatewave.service.state import ServiceState

COPIES = 3
"""Copies of the results in memory: tensors, the message, and its serialized form."""


class ModelInferProtocol(InferenceProtocol[pb.ModelInferRequest, pb.ModelInferResponse]):
    """Protocol of one ModelInfer message.

    Args:
        state: The state of the service.
        structured: Number of bytes of the message that are not raw contents.
        call_deadline: The deadline of the call, in seconds of `time.monotonic`, if it has one.
    """

    def __init__(self, state: ServiceState, structured: int, call_deadline: float | None) -> None:
        self.state = state
        self.structured = structured
        self.call_deadline = call_deadline

    def decode(self, body: Body, timing: Timing) -> Decoding[pb.ModelInferRequest]:
        return Stage(self.structured, partial(self._parsed, bytes(body), timing))

    def encode(
        self, decoded: Decoded[pb.ModelInferRequest], outputs: Mapping[str, Array]
    ) -> pb.ModelInferResponse:
        return messages.response_to(decoded.source, decoded.call.model, outputs)

    def result_weight(self, decoded: Decoded[pb.ModelInferRequest]) -> int:  # noqa: ARG002 - as the interface
        return COPIES

    def encoding_size(
        self,
        decoded: Decoded[pb.ModelInferRequest],  # noqa: ARG002 - as the interface
        outputs: Mapping[str, Array],
    ) -> int:
        # Strings are written one by one; other tensors are copied as they are.
        return sum(output.nbytes for output in outputs.values() if output.dtype.hasobject)

    def _parsed(self, data: bytes, timing: Timing) -> Stage[pb.ModelInferRequest]:
        request = messages.parsed(pb.ModelInferRequest, data)
        # The next stage starts on the event loop: the registry is not read in threads.
        return Stage(0, partial(self._found, request, len(data), timing))

    def _found(
        self, request: pb.ModelInferRequest, size: int, timing: Timing
    ) -> Stage[pb.ModelInferRequest]:
        """Find the model; only now an error counts as its failure."""
        model = self.state.registry.get(request.model_name, request.model_version)
        timing.model = model
        messages.check_sizes(request)
        parameters = messages.parameters_of(request)
        timing.deadline = self._deadline(parameters, timing)
        reading = partial(self._checked, request, model, parameters, timing)
        if messages.is_raw(request):
            return Stage(0, reading)
        # Other contents are read one by one.
        check_elements(messages.elements_in(request), self.state.settings.max_elements)
        return Stage(size * READ_WEIGHT, reading, messages.memory_of(request))

    def _checked(
        self,
        request: pb.ModelInferRequest,
        model: Model,
        parameters: Mapping[str, Any],
        timing: Timing,
    ) -> Decoded[pb.ModelInferRequest]:
        inputs = messages.inputs_of(request, model, self.state.settings.max_rank)
        wanted = messages.wanted_of(request)
        due = timing.deadline
        return Decoded(request, call_of(self.state, model, inputs, wanted, parameters, due))

    def _deadline(self, parameters: Mapping[str, Any], timing: Timing) -> float:
        """Return the deadline; the deadline of the gRPC call replaces the default timeout."""
        due = deadline(self.state, parameters, timing.arrived)
        if self.call_deadline is None:
            return due
        return min(due, self.call_deadline) if "timeout" in parameters else self.call_deadline
