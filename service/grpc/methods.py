"""What each method of the protocol does; how it is called, and what errors become, is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.json_format import ParseDict

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import ControlOff, ModelNotReady, NameUnknown
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc import messages
from gatewave.service.observability.metrics import Span, timed
from gatewave.service.oip import metadata
from gatewave.service.oip.requests import call_of, deadline
from gatewave.service.oip.tensors import check_count
from gatewave.service.oip.unsupported import refuse_of_repository
from gatewave.service.serving.control import Control
from gatewave.service.serving.memory import Permit
from gatewave.service.serving.model import Model
from gatewave.service.serving.pipeline import READ_WEIGHT
from gatewave.service.state import ServiceState
from gatewave.service.system.cancellation import CancelToken

COPIES = 3
"""How often results are in memory: as tensors, in the message, and as what is sent of it."""


@dataclass(slots=True)
class Arrival:
    """Size and times of the arrival of a request.

    Attributes:
        size: In bytes.
        text: The bytes that are not raw contents.
        began: The time of its arrival, in seconds of `time.perf_counter`.
        arrived: The same, in seconds of `time.monotonic`.
        deadline: The caller's deadline, in seconds of `time.monotonic`.
        permit: The permit that holds its memory, until it is answered.
    """

    size: int
    text: int
    began: float
    arrived: float
    deadline: float | None
    permit: Permit


class Methods:
    """The methods of GRPCInferenceService, by their names in lower case."""

    def __init__(self, state: ServiceState) -> None:
        self.state = state

    async def server_live(self, _request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self.state.ready)

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """A model that nobody knows is not ready: that is what Triton says of it too."""
        try:
            self.state.registry.get(request.name, request.version)
        except (NameUnknown, ModelNotReady):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(
        self, _request: pb.ServerMetadataRequest
    ) -> pb.ServerMetadataResponse:
        return ParseDict(metadata.server(), pb.ServerMetadataResponse())

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        registry = self.state.registry
        model = registry.get(request.name, request.version)
        return ParseDict(metadata.model_metadata(registry, model), pb.ModelMetadataResponse())

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        model = self.state.registry.get(request.name, request.version)
        config = {"config": metadata.model_config(model)}
        return ParseDict(config, pb.ModelConfigResponse())

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest
    ) -> pb.ModelStatisticsResponse:
        registry = self.state.registry
        document = await metadata.statistics(registry, request.name, request.version)
        return ParseDict(document, pb.ModelStatisticsResponse())

    async def repository_index(
        self, request: pb.RepositoryIndexRequest
    ) -> pb.RepositoryIndexResponse:
        if self.state.repository is not None:
            await self.state.repository.look()
        models = metadata.repository_index(self.state.registry, ready_only=request.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse())

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest
    ) -> pb.RepositoryModelLoadResponse:
        name = _name(request)
        await self._repository.load(name)
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        name = _name(request)
        await self._repository.unload(name)
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    async def model_infer(
        self, request: pb.ModelInferRequest, arrival: Arrival
    ) -> pb.ModelInferResponse:
        """Compute, and count what became of it.

        Raises:
            ServiceError: Why there is no answer.
        """
        inference = self.state.inference
        model = self.state.registry.get(request.model_name, request.model_version)
        with model.meter.expecting(arrival.began):
            messages.check_sizes(request)
            parameters = messages.parameters_of(request)
            due = self._due(parameters, arrival)
            inputs, decoding = await self._inputs(request, model, arrival, due)
            wanted = messages.wanted_of(request)
            call = call_of(self.state, model, inputs, wanted, parameters, due)
            outputs = await inference.infer(call, arrival.permit, weight=COPIES)
            respond = partial(messages.response_to, request, model, outputs)
            response, encoding = await inference.finish(_strings(outputs), timed(respond))
        model.meter.finished(arrival.began, decoding, encoding)
        return response

    @property
    def _repository(self) -> Control:
        if self.state.repository is None:
            raise ControlOff("there is no model repository: set GATEWAVE_REPOSITORY")
        return self.state.repository

    def _due(self, parameters: Mapping[str, Any], arrival: Arrival) -> float:
        """When it must have started: a deadline of gRPC's takes the place of the default."""
        due = deadline(self.state, parameters, arrival.arrived)
        if arrival.deadline is None:
            return due
        return min(due, arrival.deadline) if "timeout" in parameters else arrival.deadline

    async def _inputs(
        self, request: pb.ModelInferRequest, model: Model, arrival: Arrival, due: float
    ) -> tuple[dict[str, Array], Span]:
        """The tensors; what is not raw is read element by element, in a lane if there is much."""
        max_rank = self.state.settings.max_rank
        reading = timed(partial(messages.inputs_of, request, model, max_rank))
        if messages.is_raw(request):
            return reading()
        check_count(messages.elements_in(request), self.state.settings.max_elements)
        arrival.permit.take(messages.memory_of(request))
        return await self.state.inference.work(
            arrival.size * READ_WEIGHT, reading, CancelToken(due)
        )


def _name(request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest) -> str:
    """The model's name: KServe's clients have it where Triton's have the repository's.

    Raises:
        RequestInvalid: The request brings files or a configuration.
    """
    refuse_of_repository(request.parameters)
    return request.model_name or request.repository_name


def _strings(outputs: dict[str, Array]) -> int:
    """The bytes of pointers to strings, which are written one by one."""
    return sum(output.nbytes for output in outputs.values() if output.dtype.hasobject)
