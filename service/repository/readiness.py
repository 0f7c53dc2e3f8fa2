"""Readiness of isolated models, as their processes report it from other threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref

from gatewave.service.repository import reasons
from gatewave.service.repository.folder import ModelPlan
from gatewave.service.repository.model import RepositoryModel
from gatewave.service.serving.registry import UNAVAILABLE, Registry

log = logging.getLogger(__name__)


class ReadinessMonitor:
    """Suspends models whose processes have ended, and resumes them when a process runs again."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._loop = asyncio.get_running_loop()
        self._suspended: dict[tuple[str, str], RepositoryModel] = {}

    def listener(self, plan: ModelPlan) -> ReadinessListener:
        """Return the receiver of the reports on one model that is about to be started."""
        return ReadinessListener(self, plan)

    def forget(self, name: str, version: str) -> RepositoryModel | None:
        """Stop to suspend a version, because it was replaced or removed; return the model."""
        return self._suspended.pop((name, version), None)

    def post(self, listener: ReadinessListener, reason: str) -> None:
        """Handle a report on the event loop; callable from any thread."""
        # RuntimeError: the loop is closed because the service has ended meanwhile.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._handle, listener, reason)

    def _handle(self, listener: ReadinessListener, reason: str) -> None:
        model = listener.model
        if model is None:
            return
        key = (model.name, model.version)
        if reason and self.registry.suspend(model, reason):
            self._suspended[key] = model
        elif self._suspended.get(key) is not model:
            # The version was replaced or removed since the process ended.
            return
        elif reason:
            self.registry.mark(*key, UNAVAILABLE, reason)
        else:
            del self._suspended[key]
            self.registry.put(model, reasons.of_served(model, listener.plan))
        fields = {"model": model.name, "version": model.version}
        if reason:
            log.warning("model not ready", extra={**fields, "reason": reason})
        else:
            log.warning("model ready again", extra=fields)


class ReadinessListener:
    """Receiver of the reports on one model.

    It refers to the model weakly: the processes refer to the listener, and they end when the model
    is no longer referenced.
    """

    def __init__(self, monitor: ReadinessMonitor, plan: ModelPlan) -> None:
        self.plan = plan
        self._monitor = monitor
        self._model: weakref.ref[RepositoryModel] | None = None

    @property
    def model(self) -> RepositoryModel | None:
        return None if self._model is None else self._model()

    def attach(self, model: RepositoryModel) -> None:
        """Set the model on which the processes report."""
        self._model = weakref.ref(model)

    def __call__(self, reason: str) -> None:
        """TrialReport why the model is not ready, or with an empty text that it is ready again."""
        self._monitor.post(self, reason)
