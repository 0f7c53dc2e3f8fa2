"""State of one worker: created once, with the application."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from gatewave.service.activations.catalogue import Catalogue
from gatewave.service.errors import SettingsInvalid
from gatewave.service.observability import tracing
from gatewave.service.observability.tracing.trace import Tracer
from gatewave.service.onnx.engine import Engine
from gatewave.service.security.clients import RateLimiter
from gatewave.service.security.keys import Keys, configured
from gatewave.service.serving.memory import Budget
from gatewave.service.serving.pipeline import Pipeline
from gatewave.service.serving.registry import Registry
from gatewave.service.serving.repository_control import RepositoryControl
from gatewave.service.serving.worker_pool import WorkerPool
from gatewave.service.settings import Settings
from gatewave.service.system import cpus
from gatewave.service.system.tls import Certificates

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ServiceState:
    """Engine, models, and admission of requests.

    Attributes:
        registry: Every model that is served, the activations' graphs included.
        repository: The loader of models, if there is one.
        rate: Limit on the requests of each client, if there is one.
        tracer: The tracer of requests, if they are traced.
        keys: The accepted keys; all protocols read them here, so that they can be replaced.
        certificates: The certificates of connections, if they are encrypted.
        draining: Whether the worker is ending: it answers requests, but is not ready.
        loading: Whether models of the repository have yet to be tried for the first time.
    """

    settings: Settings
    engine: Engine
    catalogue: Catalogue
    registry: Registry
    pipeline: Pipeline
    tracer: Tracer | None = None
    repository: RepositoryControl | None = None
    rate: RateLimiter | None = None
    draining: bool = False
    loading: bool = False
    keys: Keys = field(init=False)
    certificates: Certificates = field(init=False)

    def __post_init__(self) -> None:
        self.keys = configured(self.settings.keys, self.settings.keys_file)
        self.certificates = Certificates(self.settings)

    def reload(self) -> None:
        """Read keys and certificates again; unusable files are logged and have no effect."""
        try:
            self.keys.replace(configured(self.settings.keys, self.settings.keys_file))
            self.certificates.reload()
        except SettingsInvalid as error:
            log.error("reload failed; what was read before stays", extra={"reason": str(error)})  # noqa: TRY400 - no stack helps
        else:
            log.info("keys and certificates were read again")

    @classmethod
    def start(cls, settings: Settings) -> ServiceState:
        """Load and check all activations.

        Raises:
            DeviceUnavailable: The device of the settings does not work.
            KernelsUnavailable: The kernels are required, and one is missing.
            ArtifactInvalid: The artifacts folder is empty, or one cannot be served.
            SettingsInvalid: Traces cannot be exported, or the instruction set is unknown.
        """
        engine = Engine.start(
            settings.device,
            settings.threads,
            settings.arena_bytes,
            kernels=settings.kernels,
            instructions=settings.kernels_instructions,
        )
        catalogue = Catalogue.open(settings.artifacts, engine)
        pipeline = Pipeline(
            WorkerPool(settings.lanes or cpus.available(), settings.max_queue),
            Budget(settings.max_memory_bytes, settings.client_memory_share),
            inline_bytes=settings.inline_bytes,
            output_bytes=settings.max_output_bytes,
        )
        tracer = None if settings.traces is None else tracing.start(settings.traces)
        rate = settings.client_requests_per_second
        registry = Registry(catalogue.graphs())
        limiter = RateLimiter(rate) if rate else None
        return cls(settings, engine, catalogue, registry, pipeline, tracer, rate=limiter)

    @property
    def ready(self) -> bool:
        return not self.draining and not self.loading

    def close(self, seconds: float = float("inf")) -> bool:
        """End the threads after their present work.

        Args:
            seconds: Time limit for that, and for sending the remaining traces.

        Returns:
            Whether all threads have ended; Python waits for the others at its exit.
        """
        have_ended = self.pipeline.worker_pool.close(seconds)
        if self.tracer is not None:
            self.tracer.close(seconds)
        return have_ended
