"""Model repository of a worker: loads models at the start, when files change, or on request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from gatewave.service.errors import ControlOff, ModelRefused, NameUnknown, SettingsInvalid
from gatewave.service.repository import folder as folders
from gatewave.service.repository import reasons
from gatewave.service.repository.loader import TRIAL_SECONDS, ModelLoader
from gatewave.service.repository.readiness import ReadinessMonitor
from gatewave.service.repository.reconciler import Reconciler
from gatewave.service.repository.threads import BackgroundThreads
from gatewave.service.security.keys import configured
from gatewave.service.serving.registry import UNAVAILABLE, WHOLE
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def check(settings: Settings) -> None:
    """Check the settings of the repository.

    Raises:
        SettingsInvalid: The folder does not exist; or mode ``explicit`` has no admin's key, so
            that no request could load a model.
    """
    if settings.repository is None:
        return
    if not settings.repository.is_dir():
        msg = f"GATEWAVE_REPOSITORY: expected a folder, got {settings.repository}"
        raise SettingsInvalid(msg)
    if settings.repository_mode != "explicit":
        return
    if not any(
        "admin" in entry.grants for entry in configured(settings.keys, settings.keys_file).entries
    ):
        msg = "GATEWAVE_REPOSITORY_MODE=explicit needs an admin's key: `gatewave key --scope admin`"
        raise SettingsInvalid(msg)


class Repository:
    """Models of a folder, loaded and unloaded in the mode that the settings choose.

    It is used on the event loop only; files are read and models are opened in threads and
    processes. Models do not wait for each other: a long trial delays changes of its model only. A
    version that is ready stays ready until its replacement is. If the replacement is refused, the
    state remains READY, and the reason beside it says why.

    Mode ``explicit`` loads all models at the start, so that a restarted service serves the same
    models; except models whose configuration has ``load_at_start: false``.

    Attributes:
        first_scan: Done when all models that existed at the start were tried.
        tasks: Loads under way, and the poll.
    """

    def __init__(self, root: Path, state: ServiceState, trial_seconds: float) -> None:
        self.root = root
        self.state = state
        self.registry = state.registry
        self.threads = BackgroundThreads()
        readiness = ReadinessMonitor(self.registry)
        self.loader = ModelLoader(root, state, readiness, self.threads, trial_seconds)
        self.reconciler = Reconciler(root, self.registry, self.loader, readiness, self.threads)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.first_scan: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(
        cls, state: ServiceState, trial_seconds: float = TRIAL_SECONDS
    ) -> Repository | None:
        """Begin as `begin` does, and wait until all existing models were tried."""
        if state.settings.repository is None:
            return None
        repository = await cls.begin(state, trial_seconds)
        await repository.first_scan
        return repository

    @classmethod
    async def begin(cls, state: ServiceState, trial_seconds: float = TRIAL_SECONDS) -> Repository:
        """Register the existing models and begin to load them; in mode ``poll``, watch the folder.

        A model that cannot be served is marked, and does not affect others. The state is loading
        until all models were tried.

        Raises:
            SettingsInvalid: The settings of the repository cannot be applied.
        """
        settings = state.settings
        check(settings)
        root = cast("Path", settings.repository)
        repository = cls(root, state, trial_seconds)
        try:
            names = await repository.reconciler.names()
        except OSError as error:
            msg = f"GATEWAVE_REPOSITORY: {root} cannot be read: {error.strerror}"
            raise SettingsInvalid(msg) from error
        state.loading = True
        # The task is not awaited here: the port opens before the models are tried.
        repository.first_scan = repository._begin(repository._load_all(names))
        if settings.repository_mode == "poll":
            repository._begin(repository._poll(settings.repository_poll_seconds))
        return repository

    @property
    def is_busy(self) -> bool:
        """Return whether threads still read or open models; they cannot be ended."""
        return self.threads.is_busy

    @property
    def _is_explicit(self) -> bool:
        return self.state.settings.repository_mode == "explicit"

    async def close(self) -> None:
        """Stop watching the folder, and end the trials under way."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.loader.close()

    async def scan(self) -> None:
        """Bring all models in line with the folder."""
        await self._update_all(await self.reconciler.names())

    async def discover(self) -> None:
        """Mark the models of the folder that are neither loaded nor refused."""
        for name in await self.threads.run(folders.model_folders, self.root):
            if name not in self.registry.models and folders.is_name(name):
                self.registry.mark(name, WHOLE, UNAVAILABLE, reasons.NOT_LOADED)

    async def load(self, name: str) -> None:
        """Load the model ``name``, or load it again if its files have changed.

        The load is completed even if the caller is cancelled.

        Raises:
            ControlOff: The mode is not ``explicit``.
            NameUnknown: The folder has no such model.
            ModelRefused: A version of it cannot be served.
        """
        self._check_control(name)
        # The shield keeps a client that disconnects from ending a trial that has begun.
        refused = await asyncio.shield(self._begin(self._load(name)))
        if refused:
            raise ModelRefused(f"model {name} is refused: {'; '.join(refused)}")

    async def unload(self, name: str) -> None:
        """Stop serving all versions of the model ``name``; requests under way are finished.

        Raises:
            ControlOff: The mode is not ``explicit``.
            NameUnknown: The folder has no such model.
        """
        self._check_control(name)
        reconciler = self.reconciler
        async with reconciler.lock(name):
            if name in reconciler.taken or not (
                name in self.registry.models or await reconciler.has_folder(name)
            ):
                raise NameUnknown.at("model", "a model of the repository", name)
            reconciler.drop(name)
            self.registry.mark(name, WHOLE, UNAVAILABLE, reasons.UNLOADED)

    def _check_control(self, name: str) -> None:
        if not self._is_explicit:
            raise ControlOff(
                "models are loaded and unloaded on request with GATEWAVE_REPOSITORY_MODE=explicit "
                f"only; the mode is {self.state.settings.repository_mode}"
            )
        if not folders.is_name(name):
            raise NameUnknown.at("model", f"a name that matches {folders.NAME.pattern}", name)

    async def _load(self, name: str) -> list[str]:
        """Load a model on request; return the reasons why versions were refused."""
        async with self.reconciler.lock(name):
            self.reconciler.forget_refusals(name)
            refused = await self.reconciler.refresh(name)
            known = self.registry.models.get(name)
            if refused is None and (known is None or not known.ready):
                self.reconciler.drop(name)
        if refused is None:
            raise NameUnknown.at("model", "a model of the repository", name)
        return refused

    async def _load_all(self, names: Iterable[str]) -> None:
        """Try all models for the first time."""
        await self._update_all(names)
        self.state.loading = False

    async def _update_all(self, names: Iterable[str]) -> None:
        await asyncio.gather(*map(self._update, names))

    async def _update(self, name: str) -> None:
        await self.reconciler.update(name, may_defer=self._is_explicit)

    async def _poll(self, seconds: float) -> None:
        is_logged = False
        while True:
            await asyncio.sleep(seconds)
            try:
                names = await self.reconciler.names()
            except OSError:
                # Logged once, and not at every poll, until the folder can be read again.
                if not is_logged:
                    log.exception("the repository cannot be read")
                is_logged = True
                continue
            is_logged = False
            for name in names:
                # The next poll sees what changes during a load under way.
                if not self.reconciler.lock(name).locked():
                    self._begin(self._update(name))

    def _begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task
