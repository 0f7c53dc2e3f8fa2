"""Everything that one worker holds: made once, when the application is created."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from service import cpus, tracing
from service.catalogue import Catalogue
from service.engine import Engine
from service.errors import SettingsInvalid
from service.security import Keys, configured
from service.serving.budget import Budget
from service.serving.clients import RateLimiter
from service.serving.control import Control
from service.serving.inference import Inference
from service.serving.lanes import Lanes
from service.serving.registry import Registry
from service.settings import Settings
from service.tls import Certificates
from service.tracing.trace import Tracer

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Runtime:
    """The engine, what runs on it, and the admission to it.

    Attributes:
        registry: Every model that is served, the activations' graphs included.
        repository: Who loads and unloads models, if anybody does.
        rate: How many requests each client may send, if that is limited.
        tracer: What traces requests, if they are traced.
        keys: Who may call; every protocol looks there, so that they can be replaced.
        certificates: What encrypts connections, if they are encrypted.
        draining: Whether the worker was told to end: it answers, and is not ready.
        loading: Whether models of the repository have yet to be tried for the first time.
    """

    settings: Settings
    engine: Engine
    catalogue: Catalogue
    registry: Registry
    inference: Inference
    tracer: Tracer | None = None
    repository: Control | None = None
    rate: RateLimiter | None = None
    draining: bool = False
    loading: bool = False
    keys: Keys = field(init=False)
    certificates: Certificates = field(init=False)

    def __post_init__(self) -> None:
        self.keys = configured(self.settings.keys, self.settings.keys_file)
        self.certificates = Certificates(self.settings)

    def reload(self) -> None:
        """Read keys and certificates again; what cannot be used is logged, and changes nothing."""
        try:
            self.keys.replace(configured(self.settings.keys, self.settings.keys_file))
            self.certificates.reload()
        except SettingsInvalid as error:
            log.error("reload failed; what was read before stays", extra={"reason": str(error)})  # noqa: TRY400 - no stack helps
        else:
            log.info("keys and certificates were read again")

    @classmethod
    def start(cls, settings: Settings) -> Runtime:
        """Load and prove all there is to serve.

        Raises:
            DeviceUnavailable: The wanted device does not work.
            KernelsUnavailable: The kernels are demanded, and cannot be had for all there is.
            ArtifactInvalid: The artifacts folder is empty, or holds what cannot be served.
            SettingsInvalid: Traces are wanted, and cannot be sent; or unknown instructions.
        """
        engine = Engine.start(
            settings.device,
            settings.threads,
            settings.arena_bytes,
            kernels=settings.kernels,
            instructions=settings.kernels_instructions,
        )
        catalogue = Catalogue.open(settings.artifacts, engine)
        inference = Inference(
            Lanes(settings.lanes or cpus.available(), settings.max_queue),
            Budget(settings.max_memory_bytes, settings.client_memory_share),
            inline_bytes=settings.inline_bytes,
            output_bytes=settings.max_output_bytes,
        )
        tracer = None if settings.traces is None else tracing.start(settings.traces)
        rate = settings.client_requests_per_second
        registry = Registry(catalogue.graphs())
        limiter = RateLimiter(rate) if rate else None
        return cls(settings, engine, catalogue, registry, inference, tracer, rate=limiter)

    @property
    def ready(self) -> bool:
        return not self.draining and not self.loading

    def close(self, seconds: float = float("inf")) -> bool:
        """End the threads; what they are doing is finished first.

        Args:
            seconds: How long that, and what there is to send of traces, may take.

        Returns:
            Whether all threads have ended: Python waits for those that have not.
        """
        have_ended = self.inference.lanes.close(seconds)
        if self.tracer is not None:
            self.tracer.close(seconds)
        return have_ended
