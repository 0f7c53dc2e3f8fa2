"""Reconciliation of the registry with the folder, one model at a time."""

from __future__ import annotations

import asyncio
import logging
from math import inf
from pathlib import Path
from weakref import WeakValueDictionary

from gatewave.service.errors import ModelRefused, Overloaded, ServiceError
from gatewave.service.repository import folder as folders
from gatewave.service.repository import reasons
from gatewave.service.repository.attempts import Attempt, unfinished
from gatewave.service.repository.files import FilesChanged
from gatewave.service.repository.folder import ModelPlan
from gatewave.service.repository.loader import ModelLoader
from gatewave.service.repository.readiness import ReadinessMonitor
from gatewave.service.repository.threads import BackgroundThreads
from gatewave.service.repository.trial.process import TrialUnfinished
from gatewave.service.serving.registry import LOADING, UNAVAILABLE, WHOLE, Registry, VersionState

log = logging.getLogger(__name__)

MAX_LABEL_LENGTH = 80
"""Longest name that is shown of a folder whose name is not valid, in characters."""


class Reconciler:
    """Registry of the served models, kept in line with the folder.

    Attributes:
        attempts: The attempts by model and version, so that unchanged files are not tried again.
        taken: Names of activations, which no model may have.
    """

    def __init__(
        self,
        root: Path,
        registry: Registry,
        loader: ModelLoader,
        readiness: ReadinessMonitor,
        threads: BackgroundThreads,
    ) -> None:
        self.root = root
        self.registry = registry
        self.loader = loader
        self.readiness = readiness
        self.threads = threads
        self.taken = frozenset(registry.models)
        self.attempts: dict[str, dict[str, Attempt]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock that a change of the model ``name`` holds.

        Each model has its own: a trial may take minutes, and must delay no other model.
        """
        return self._locks.setdefault(name, asyncio.Lock())

    async def names(self) -> set[str]:
        """Return the present and the former models of the folder, and register the new ones.

        Raises:
            OSError: The folder cannot be read.
        """
        present = await self.threads.run(folders.model_folders, self.root)
        for name in present:
            if folders.is_name(name) and name not in self.registry.models:
                self.registry.mark(name, WHOLE, LOADING)
        return {*present, *self.attempts}

    async def has_folder(self, name: str) -> bool:
        return await self.threads.run(folders.is_folder, self.root / name)

    async def update(self, name: str, *, may_defer: bool) -> None:
        """Bring one model in line with its folder; errors are logged and affect no other model.

        Args:
            name: The name of a folder, which may be invalid or missing.
            may_defer: Whether ``load_at_start: false`` defers the first load to a request.
        """
        async with self.lock(name):
            try:
                if await self.refresh(name, may_defer=may_defer) is None:
                    self.drop(name)
            except Exception:
                # Any error: the operator's file system may fail in any way.
                known = self.registry.models.get(_label(name))
                # Log the error once, and not at every poll.
                unreadable = VersionState(UNAVAILABLE, reasons.UNREADABLE)
                if known is None or known.states.get(WHOLE) != unreadable:
                    log.exception("model cannot be read", extra={"model": _label(name)})
                self.registry.mark(_label(name), WHOLE, UNAVAILABLE, reasons.UNREADABLE)

    async def refresh(self, name: str, *, may_defer: bool = False) -> list[str] | None:
        """Load the changed versions of a model; the caller holds its lock.

        Returns:
            The reasons why versions were refused, or None if the model has no folder.
        """
        if not folders.is_name(name) or name in self.taken:
            return [self._refuse_name(name)] if await self.has_folder(name) else None
        plan = await self.threads.run(folders.read_plan, self.root, name)
        if plan is None:
            return None
        if may_defer and not plan.config.load_at_start and name not in self.attempts:
            self.registry.mark(name, WHOLE, UNAVAILABLE, reasons.NOT_LOADED)
            self.registry.annotate(name, plan.note)
            return []
        attempts = self.attempts.setdefault(name, {})
        changed = [
            version
            for version, fingerprint in plan.wanted.items()
            if version not in attempts or not attempts[version].is_of(fingerprint)
        ]
        # Before `_mark_invalid` removes the mark of the whole model: without any mark, the name is
        # unknown, and requests are answered with 404 instead of 503.
        for version in changed:
            self.registry.mark(name, version, LOADING)
        self._mark_invalid(name, plan)
        self.registry.annotate(name, plan.note)
        refused = await asyncio.gather(*(self._load(name, version, plan) for version in changed))
        self._retire(name, plan)
        return [plan.error] if plan.error else [reason for reason in refused if reason]

    def forget_refusals(self, name: str) -> None:
        """Have refused versions tried again although no file has changed."""
        versions = self.registry.models.get(name)
        if versions is not None:
            for version, state in versions.states.items():
                if state.reason:
                    self.attempts.get(name, {}).pop(version, None)

    def drop(self, name: str) -> None:
        """Remove a model from the registry."""
        attempts = self.attempts.pop(name, {})
        known = self.registry.models.get(_label(name))
        if known is not None:
            for version in {WHOLE} if name in self.taken else set(known.states):
                self._remove(_label(name), version)
        if attempts:
            log.info("model unloaded", extra={"model": name})

    def _refuse_name(self, name: str) -> str:
        reason = reasons.name_taken(name) if name in self.taken else reasons.INVALID_NAME
        if name not in self.attempts:
            log.warning("model refused", extra={"model": _label(name), "reason": reason})
            self.attempts[name] = {}
        self.registry.mark(_label(name), WHOLE, UNAVAILABLE, reason)
        return reason

    def _mark_invalid(self, name: str, plan: ModelPlan) -> None:
        """Mark invalid version numbers, and the model if no version can be chosen."""
        for version in plan.invalid:
            self.registry.mark(name, version, UNAVAILABLE, reasons.INVALID_VERSION)
        if not plan.error:
            self.registry.remove(name, WHOLE)
            return
        # Served versions continue. They are loaded again once the configuration is valid.
        self.attempts[name].clear()
        known = self.registry.models.get(name)
        if known is None or known.states.get(WHOLE, VersionState("")).reason != plan.error:
            log.warning("model refused", extra={"model": name, "reason": plan.error})
        for version in (WHOLE, *(known.ready if known else ())):
            self.registry.mark(name, version, UNAVAILABLE, plan.error)

    async def _load(self, name: str, version: str, plan: ModelPlan) -> str:
        """Load a version and serve it; return the reason if it was refused."""
        attempts, fingerprint = self.attempts[name], plan.wanted[version]
        # Removed during the trial: the next update repeats a trial that was cancelled.
        before = attempts.pop(version, None)
        starts = 1 if before is not None and before.wait < inf else 0
        try:
            model = await self.loader.load(name, version, plan, starts)
        except (TrialUnfinished, FilesChanged, Overloaded) as error:
            attempts[version] = unfinished(fingerprint, before)
            return self._refuse(name, version, error)
        except ModelRefused as error:
            attempts[version] = Attempt(fingerprint)
            return self._refuse(name, version, error)
        attempts[version] = Attempt(fingerprint)
        self.readiness.forget(name, version)
        self.registry.put(model, reasons.of_served(model, plan))
        fields = {
            "model": name,
            "version": version,
            "batched": model.batching is not None,
            "isolation": model.isolation,
            "reason": model.batching_note,
            **({"warmup": model.warmup} if model.warmup else {}),
        }
        log.info("model loaded", extra=fields)
        return ""

    def _refuse(self, name: str, version: str, error: ServiceError) -> str:
        self.registry.mark(name, version, UNAVAILABLE, str(error))
        fields = {"model": name, "version": version, "reason": str(error)}
        log.warning("model refused", extra=fields)
        return f"version {version}: {error}"

    def _retire(self, name: str, plan: ModelPlan) -> None:
        """Remove versions without a folder, and unwanted ones once all wanted versions are ready.

        Otherwise a broken new version would end the service of the version before it.
        """
        versions = self.registry.models[name]
        is_replaced = not plan.error and plan.wanted.keys() <= versions.ready.keys()
        for version in versions.states.keys() - plan.wanted.keys() - plan.invalid - {WHOLE}:
            if is_replaced or version not in plan.present:
                self._remove(name, version)

    def _remove(self, name: str, version: str) -> None:
        self.attempts.get(name, {}).pop(version, None)
        suspended = self.readiness.forget(name, version)
        if suspended is not None:
            # The registry has only models that are ready, so it cannot remove this one's series.
            suspended.meter.remove()
        if self.registry.remove(name, version) is not None:
            log.info("version unloaded", extra={"model": name, "version": version})


def _label(name: str) -> str:
    """Return a printable form of a folder's name, which may be any bytes."""
    return ascii(name)[1:-1][:MAX_LABEL_LENGTH]
