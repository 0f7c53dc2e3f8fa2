"""The models of a folder, kept served as the folder and the admin have it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterable
from math import inf
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakSet, WeakValueDictionary

from gatewave.service.errors import (
    ControlOff,
    ModelRefused,
    NameUnknown,
    Overloaded,
    ServiceError,
    SettingsInvalid,
)
from gatewave.service.onnx.session import CPU
from gatewave.service.repository import folder as folders
from gatewave.service.repository.attempts import Attempt, unfinished
from gatewave.service.repository.config import Config
from gatewave.service.repository.files import FilesChanged, read_tried
from gatewave.service.repository.folder import Plan
from gatewave.service.repository.isolation.isolated import Work
from gatewave.service.repository.isolation.isolation import Processes, isolated
from gatewave.service.repository.model import Declared, opened
from gatewave.service.repository.slots import Trial, TrialSlots
from gatewave.service.repository.trial import trial
from gatewave.service.repository.trial.job import COPIES, Job, Report, Setup
from gatewave.service.repository.trial.sizes import in_words
from gatewave.service.repository.trial.verification import TrialUnfinished, verified
from gatewave.service.security.keys import configured
from gatewave.service.serving.registry import LOADING, UNAVAILABLE, WHOLE, State
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState
from gatewave.service.system import cpus, memory

log = logging.getLogger(__name__)

TRIAL_SECONDS = 120.0
"""How long a model may take to be loaded and run, before it is given up."""

PROOF_SECONDS = 30.0
"""How long the proof that batching is exact may take after that, before it is not batched."""

LONGEST_LABEL = 80
NOT_SEEN = "it cannot be read"
NOT_LOADED = "it is not loaded"
NO_VERSION = "a version is a whole number from 1 on, without leading zeros"

Result = TypeVar("Result")


def check(settings: Settings) -> None:
    """See that the settings about the repository can be followed.

    Raises:
        SettingsInvalid: The folder is not there; or models would be loaded when an admin asks, and
            there is no admin.
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
    """Loads and unloads the models of a folder, in the mode that the settings choose.

    It is used on the event loop only; reading, trying and opening are done elsewhere. Models do not
    wait for each other: whoever is tried at length holds up changes of itself only. A version
    that answers goes on answering until another is ready in its place: when that is refused,
    its state is READY still, and the reason beside it says what was wrong.

    In mode ``explicit`` everything is loaded at the start, so that a restart serves what was
    served; but for models whose configuration has ``load_at_start: false``.
    """

    def __init__(self, root: Path, state: ServiceState, trial_seconds: float) -> None:
        self.root = root
        self.state = state
        self.registry = state.registry
        self.trial_seconds = trial_seconds
        settings = state.settings
        self.most_bytes = settings.max_model_bytes or (
            memory.available() // (COPIES * settings.workers)
        )
        self._taken = frozenset(self.registry.models)
        self._tried: dict[str, dict[str, Attempt]] = {}
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.trials = TrialSlots(cpus.available() + 1)
        self.tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._suspended: dict[tuple[str, str], Declared] = {}
        self._processes: WeakSet[Processes] = WeakSet()
        self.first_scan: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._threads: set[object] = set()

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
        """Begin to load the existing models, which are now known; in mode ``poll``, watch them.

        A model that cannot be served is marked, and does not affect others. The runtime is loading
        until all models were tried.

        Raises:
            SettingsInvalid: The settings of the repository cannot be applied.
        """
        settings = state.settings
        check(settings)
        root = cast("Path", settings.repository)
        repository = cls(root, state, trial_seconds)
        try:
            found = await repository._found()
        except OSError as error:
            msg = f"GATEWAVE_REPOSITORY: {root} cannot be read: {error.strerror}"
            raise SettingsInvalid(msg) from error
        state.loading = True
        repository.first_scan = repository._begin(repository._load_all(found))
        if settings.repository_mode == "poll":
            repository._begin(repository._poll(settings.repository_poll_seconds))
        return repository

    async def _load_all(self, found: Iterable[str]) -> None:
        """Try all models for the first time."""
        await asyncio.gather(*[self._update(name) for name in found])
        self.state.loading = False

    @property
    def is_busy(self) -> bool:
        """Return whether threads still read or open models; they cannot be ended."""
        return bool(self._threads)

    async def _in_thread(self, work: Callable[..., Result], *given: Any) -> Result:
        """Return the result of ``work``, called in a thread that `is_busy` counts."""
        mark = object()

        def noted() -> Result:
            self._threads.add(mark)
            try:
                return work(*given)
            finally:
                self._threads.discard(mark)

        return await asyncio.to_thread(noted)

    async def close(self) -> None:
        """Look after nothing any more; trials under way are ended."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for processes in list(self._processes):
            processes.close()

    async def scan(self) -> None:
        """Bring what is served in line with the folder."""
        await asyncio.gather(*[self._update(name) for name in await self._found()])

    async def look(self) -> None:
        """Note models that are in the folder, and neither loaded nor refused."""
        for name in await self._in_thread(folders.folders, self.root):
            if name not in self.registry.models and folders.is_name(name):
                self.registry.mark(name, WHOLE, UNAVAILABLE, NOT_LOADED)

    async def load(self, name: str) -> None:
        """Load the model called ``name``, or load it again where its files have changed.

        It is seen through, whether or not the caller waits.

        Raises:
            ControlOff: The mode is another than ``explicit``.
            NameUnknown: There is no such model in the folder.
            ModelRefused: A version of it cannot be served.
        """
        self._demand_control(name)
        reasons = await asyncio.shield(self._begin(self._loaded(name)))
        if reasons:
            raise ModelRefused(f"model {name} is refused: {'; '.join(reasons)}")

    async def unload(self, name: str) -> None:
        """Serve no version of the model called ``name`` any more; requests under way are finished.

        Raises:
            ControlOff: The mode is another than ``explicit``.
            NameUnknown: It is no model of the folder.
        """
        self._demand_control(name)
        async with self._lock(name):
            if name in self._taken or not (
                name in self.registry.models or await self._has_folder(name)
            ):
                raise NameUnknown.at("model", "a model of the repository", name)
            self._drop(name)
            self.registry.mark(name, WHOLE, UNAVAILABLE, "it was unloaded")

    def _demand_control(self, name: str) -> None:
        mode = self.state.settings.repository_mode
        if mode != "explicit":
            raise ControlOff(
                "models are loaded and unloaded on request with GATEWAVE_REPOSITORY_MODE=explicit "
                f"only; it is {mode}"
            )
        if not folders.is_name(name):
            raise NameUnknown.at("model", f"a name like {folders.NAME.pattern}", name)

    async def _loaded(self, name: str) -> list[str]:
        """Load ``name``, and say what of it was refused."""
        async with self._lock(name):
            self._forget_refusals(name)
            reasons = await self._refresh(name)
            known = self.registry.models.get(name)
            if reasons is None and (known is None or not known.ready):
                self._drop(name)
        if reasons is None:
            raise NameUnknown.at("model", "a model of the repository", name)
        return reasons

    def _forget_refusals(self, name: str) -> None:
        """Have what was refused tried again, though no file has changed."""
        versions = self.registry.models.get(name)
        if versions is not None:
            for version, state in versions.states.items():
                if state.reason:
                    self._tried.get(name, {}).pop(version, None)

    def _lock(self, name: str) -> asyncio.Lock:
        """What whoever changes a model holds."""
        return self._changing.setdefault(name, asyncio.Lock())

    async def _found(self) -> set[str]:
        """Return the present and former models of the folder; new ones are known from now on."""
        present = await self._in_thread(folders.folders, self.root)
        for name in present:
            if folders.is_name(name) and name not in self.registry.models:
                self.registry.mark(name, WHOLE, LOADING)
        return {*present, *self._tried}

    async def _has_folder(self, name: str) -> bool:
        return await self._in_thread(folders.is_folder, self.root / name)

    async def _poll(self, seconds: float) -> None:
        is_told = False
        while True:
            await asyncio.sleep(seconds)
            try:
                found = await self._found()
            except OSError:
                if not is_told:
                    log.exception("the repository cannot be read")
                is_told = True
                continue
            is_told = False
            for name in found:
                if not self._lock(name).locked():
                    self._begin(self._update(name))

    async def _update(self, name: str) -> None:
        """Bring one model in line with its folder; whatever goes wrong hinders no other."""
        async with self._lock(name):
            try:
                if await self._refresh(name, starting=True) is None:
                    self._drop(name)
            except Exception:
                known = self.registry.models.get(_label(name))
                # Logged once, and not at every poll.
                if known is None or known.states.get(WHOLE) != State(UNAVAILABLE, NOT_SEEN):
                    log.exception("a model cannot be read", extra={"model": _label(name)})
                self.registry.mark(_label(name), WHOLE, UNAVAILABLE, NOT_SEEN)

    async def _refresh(self, name: str, *, starting: bool = False) -> list[str] | None:
        """Bring one model in line with its folder; say what was refused, or that there is none."""
        if not folders.is_name(name) or name in self._taken:
            return [self._refuse_name(name)] if await self._has_folder(name) else None
        plan = await self._in_thread(folders.plan, self.root, name)
        if plan is None:
            return None
        if starting and self._waits(name, plan):
            self.registry.mark(name, WHOLE, UNAVAILABLE, NOT_LOADED)
            self.registry.annotate(name, plan.note)
            return []
        tried = self._tried.setdefault(name, {})
        changed = [v for v, f in plan.wanted.items() if v not in tried or not tried[v].is_of(f)]
        # Before the mark of the whole model is removed: a name without a mark is unknown (404).
        for version in changed:
            self.registry.mark(name, version, LOADING)
        self._note(name, plan)
        self.registry.annotate(name, plan.note)
        refused = await asyncio.gather(*(self._load(name, version, plan) for version in changed))
        self._retire(name, plan)
        return [plan.wrong] if plan.wrong else [reason for reason in refused if reason]

    def _waits(self, name: str, plan: Plan) -> bool:
        """Whether a model is loaded only when an admin asks."""
        explicit = self.state.settings.repository_mode == "explicit"
        return explicit and not plan.config.load_at_start and name not in self._tried

    def _refuse_name(self, name: str) -> str:
        if name in self._taken:
            reason = f"the name is taken: {name} is an activation; call the folder otherwise"
        else:
            reason = f"a model's name is like {folders.NAME.pattern}"
        if name not in self._tried:
            self._tried[name] = {}
            log.warning("model refused", extra={"model": _label(name), "reason": reason})
        self.registry.mark(_label(name), WHOLE, UNAVAILABLE, reason)
        return reason

    def _note(self, name: str, plan: Plan) -> None:
        """Mark what cannot even be tried."""
        for version in plan.odd:
            self.registry.mark(name, version, UNAVAILABLE, NO_VERSION)
        if not plan.wrong:
            self.registry.remove(name, WHOLE)
            return
        # What answers goes on, and is loaded afresh when the configuration can be read again.
        self._tried[name].clear()
        known = self.registry.models.get(name)
        if known is None or known.states.get(WHOLE, State("")).reason != plan.wrong:
            log.warning("model refused", extra={"model": name, "reason": plan.wrong})
        for version in (WHOLE, *(known.ready if known else ())):
            self.registry.mark(name, version, UNAVAILABLE, plan.wrong)

    async def _load(self, name: str, version: str, plan: Plan) -> str:
        """Serve a version, in the place of what had its number; or say why not."""
        tried, fingerprint = self._tried[name], plan.wanted[version]
        before = tried.pop(version, None)
        try:
            starts = 1 if before is not None and before.wait < inf else 0
            model = await self.trials.run(
                name, lambda trial: self._proved(name, version, plan, trial), starts
            )
        except (TrialUnfinished, FilesChanged, Overloaded) as error:
            tried[version] = unfinished(fingerprint, before)
            return self._refused(name, version, error)
        except ModelRefused as error:
            tried[version] = Attempt(fingerprint)
            return self._refused(name, version, error)
        tried[version] = Attempt(fingerprint)
        self._suspended.pop((name, version), None)
        self.registry.put(model, _reason(model, plan))
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

    def _refused(self, name: str, version: str, error: ServiceError) -> str:
        self.registry.mark(name, version, UNAVAILABLE, str(error))
        fields = {"model": name, "version": version, "reason": str(error)}
        log.warning("model refused", extra=fields)
        return f"version {version}: {error}"

    async def _proved(self, name: str, version: str, plan: Plan, slot: Trial) -> Declared:
        """The model, tried in a process of its own and then opened here."""
        engine = self.state.engine
        job = Job(
            root=str(self.root),
            folder=str(self.root / name / version),
            config=plan.text,
            device="cpu" if engine.provider == CPU else "cuda",
            kernels="native" if engine.kernels.operators else "function",
            instructions=engine.kernels.forced,
            threads=engine.threads,
            arena_bytes=self.state.settings.arena_bytes,
            most_bytes=self.most_bytes,
            seconds=self.trial_seconds,
            proof_seconds=min(PROOF_SECONDS, self.trial_seconds),
        )
        report = await verified(job)
        slot.is_settled = True
        open_ = self._isolated if _isolation(plan.config, report) else self._opened
        return await self._in_thread(open_, job, plan, report)

    def _opened(self, job: Job, plan: Plan, report: Report) -> Declared:
        """Load a version in this process."""
        batching = plan.config.batching.batching if report.batched else None
        try:
            files = read_tried(Path(job.folder), report.digests, self.most_bytes)
        except MemoryError as error:
            raise TrialUnfinished("there is no memory for its files now") from error
        shaped, engine = frozenset(report.shaped), self.state.engine
        instances = plan.config.instances or 0
        model = opened(
            files,
            engine,
            shaped,
            batching,
            report.note,
            instances=instances,
            warmup=in_words(report.warmup),
        )
        trial.warm(model, plan.config, report.warmup)
        return model

    def _isolated(self, job: Job, plan: Plan, report: Report) -> Declared:
        """Load a version in processes of its own."""
        settings, folder = self.state.settings, Path(job.folder)
        batching = plan.config.batching.batching if report.batched else None
        version = (folder.parent.name, folder.name)
        work = Work(
            **job.model_dump(include=set(Setup.model_fields)),
            digests=report.digests,
            shaped=report.shaped,
            warmup=report.warmup,
            request_bytes=settings.max_memory_bytes,
            output_bytes=0 if batching else settings.max_output_bytes,
        )
        made: list[weakref.ref[Declared]] = []
        processes = Processes(
            version,
            work,
            job.seconds,
            lambda reason: self._hear(made, plan, reason),
        )
        self._processes.add(processes)
        model = isolated(
            version,
            processes,
            batching=batching,
            batching_note=report.note,
            instances=plan.config.instances or 1,
            warmup=in_words(report.warmup),
            why=_isolation(plan.config, report),
        )
        made.append(weakref.ref(model))
        return model

    def _hear(self, made: list[weakref.ref[Declared]], plan: Plan, reason: str) -> None:
        """Note, from any thread, why a model is no longer ready, or that it is ready again."""
        # The loop is closed if the service has ended meanwhile.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._heard, made, plan, reason)

    def _heard(self, made: list[weakref.ref[Declared]], plan: Plan, reason: str) -> None:
        model = made[0]() if made else None
        if model is None:
            return
        key = (model.name, model.version)
        if reason and self.registry.suspend(model, reason):
            self._suspended[key] = model
        elif self._suspended.get(key) is not model:
            return
        elif reason:
            self.registry.mark(*key, UNAVAILABLE, reason)
        else:
            del self._suspended[key]
            self.registry.put(model, _reason(model, plan))
        fields = {"model": model.name, "version": model.version}
        message = "model not ready" if reason else "model ready again"
        log.warning(message, extra=fields | _why(reason))

    def _retire(self, name: str, plan: Plan) -> None:
        """Serve no more what is gone; and what is not wanted, once all that is wanted answers."""
        versions = self.registry.models[name]
        replaced = not plan.wrong and plan.wanted.keys() <= versions.ready.keys()
        for version in versions.states.keys() - plan.wanted.keys() - plan.odd - {WHOLE}:
            if replaced or version not in plan.present:
                self._remove(name, version)

    def _drop(self, name: str) -> None:
        """Forget a model: its folder is gone, or it shall not be served."""
        tried = self._tried.pop(name, {})
        known = self.registry.models.get(_label(name))
        if known is not None:
            for version in {WHOLE} if name in self._taken else set(known.states):
                self._remove(_label(name), version)
        if tried:
            log.info("model unloaded", extra={"model": name})

    def _remove(self, name: str, version: str) -> None:
        self._tried.get(name, {}).pop(version, None)
        suspended = self._suspended.pop((name, version), None)
        if suspended is not None:
            suspended.meter.remove()
        if self.registry.remove(name, version) is not None:
            log.info("version unloaded", extra={"model": name, "version": version})

    def _begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


def _label(name: str) -> str:
    """A folder's name as it can be shown, whatever bytes it is of."""
    return ascii(name)[1:-1][:LONGEST_LABEL]


def _asks(plan: Plan) -> bool:
    """Return whether config.yaml requests batching, so that a load tries it again."""
    return "batching" in plan.config.model_fields_set and plan.config.batching.mode != "off"


def _reason(model: Declared, plan: Plan) -> str:
    """Return the note on a served model: a requested setting that is not applied."""
    return "" if model.batching is not None or not _asks(plan) else model.batching_note


def _isolation(config: Config, report: Report) -> str:
    """Return the reason why a model is computed in processes of its own; empty if it is not."""
    if config.isolation == "process":
        return "config.yaml says so"
    return report.hazard if config.isolation == "auto" else ""


def _why(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}
