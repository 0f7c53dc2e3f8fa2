"""Methods of the inference service other than inference: from a parsed request to a response."""

from __future__ import annotations

from google.protobuf.json_format import ParseDict

from gatewave.service.errors import ControlOff, ModelNotReady, NameUnknown
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.oip import metadata
from gatewave.service.oip.unsupported import refuse_of_repository
from gatewave.service.serving.repository_control import RepositoryControl
from gatewave.service.state import ServiceState


class Methods:
    """Methods of GRPCInferenceService, named in snake case.

    They raise ServiceError; the handlers turn it into a status.
    """

    def __init__(self, state: ServiceState) -> None:
        self.state = state

    async def server_live(self, _request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self.state.ready)

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Return whether a model is ready; an unknown model is not, as in Triton."""
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
            await self.state.repository.discover()
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

    @property
    def _repository(self) -> RepositoryControl:
        if self.state.repository is None:
            raise ControlOff("there is no model repository: set GATEWAVE_REPOSITORY")
        return self.state.repository


def _name(request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest) -> str:
    """Return the name of the model, which Triton's clients send as the name of the repository.

    Raises:
        RequestInvalid: The request contains files or a configuration, which are not supported.
    """
    refuse_of_repository(request.parameters)
    return request.model_name or request.repository_name
