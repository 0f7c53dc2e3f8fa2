"""Loading of one model version: a trial in a separate process, then opening the tried files."""

from __future__ import annotations

from pathlib import Path
from weakref import WeakSet

from gatewave.service.onnx.session import CPU
from gatewave.service.repository import reasons
from gatewave.service.repository.files import read_tried
from gatewave.service.repository.folder import ModelPlan
from gatewave.service.repository.isolation.messages import IsolationSetup
from gatewave.service.repository.isolation.model import start_isolated
from gatewave.service.repository.isolation.pool import ProcessPool
from gatewave.service.repository.model import RepositoryModel, open_model
from gatewave.service.repository.readiness import ReadinessMonitor
from gatewave.service.repository.threads import BackgroundThreads
from gatewave.service.repository.trial.messages import COPIES, LoadSettings, TrialJob, TrialReport
from gatewave.service.repository.trial.process import TrialUnfinished, run_trial
from gatewave.service.repository.trial.scheduler import ScheduledTrial, TrialScheduler
from gatewave.service.repository.trial.shapes import format_shapes
from gatewave.service.repository.trial.warmup import warm_up
from gatewave.service.state import ServiceState
from gatewave.service.system import cpus, memory

TRIAL_SECONDS = 120.0
"""Time limit for loading and running a model, in seconds."""
MAX_BATCHING_CHECK_SECONDS = 30.0
"""Time limit for the check of batching after that, in seconds; then the model is not batched."""


class ModelLoader:
    """Tries and opens versions; the trials of all models share the slots of one scheduler.

    Attributes:
        max_bytes: Limit on the bytes of all files of one version.
        scheduler: The slots of trials. One slot more than processors keeps them busy while a trial
            reads its files.
    """

    def __init__(
        self,
        root: Path,
        state: ServiceState,
        readiness: ReadinessMonitor,
        threads: BackgroundThreads,
        trial_seconds: float,
    ) -> None:
        self.root = root
        self.state = state
        self.readiness = readiness
        self.threads = threads
        self.trial_seconds = trial_seconds
        settings = state.settings
        # Each worker may load a version at the same time, and holds `COPIES` of it meanwhile.
        self.max_bytes = settings.max_model_bytes or (
            memory.available() // (COPIES * settings.workers)
        )
        self.scheduler = TrialScheduler(cpus.available() + 1)
        # Weak references: the processes of a model end when its last reference is gone.
        self._pools: WeakSet[ProcessPool] = WeakSet()

    async def load(self, name: str, version: str, plan: ModelPlan, starts: int) -> RepositoryModel:
        """Try a version and open it.

        Args:
            name: The model's name.
            version: The version to load.
            plan: The plan of the model.
            starts: The number of earlier trials without a result.

        Raises:
            ModelRefused: The version cannot be served.
            TrialUnfinished: The trial had no result; another may have one.
            FilesChanged: A file changed between the trial and the opening.
            Overloaded: There is no memory for the version now.
        """
        job = self._job(name, version, plan)

        async def attempt(trial: ScheduledTrial) -> RepositoryModel:
            report = await run_trial(job)
            # The process of the trial has ended, so the slot is nearly free; and the model is good.
            trial.is_settled = True
            is_isolated = reasons.of_isolation(plan.config, report)
            open_ = self._open_isolated if is_isolated else self._open_here
            return await self.threads.run(open_, job, plan, report)

        return await self.scheduler.run(name, attempt, starts)

    def close(self) -> None:
        """End the processes of isolated models."""
        for pool in list(self._pools):
            pool.close()

    def _job(self, name: str, version: str, plan: ModelPlan) -> TrialJob:
        engine = self.state.engine
        return TrialJob(
            root=str(self.root),
            folder=str(self.root / name / version),
            config=plan.text,
            device="cpu" if engine.provider == CPU else "cuda",
            kernels="native" if engine.kernels.operators else "function",
            instructions=engine.kernels.forced,
            threads=engine.threads,
            arena_bytes=self.state.settings.arena_bytes,
            max_bytes=self.max_bytes,
            seconds=self.trial_seconds,
            batching_seconds=min(MAX_BATCHING_CHECK_SECONDS, self.trial_seconds),
        )

    def _open_here(self, job: TrialJob, plan: ModelPlan, report: TrialReport) -> RepositoryModel:
        """Open a version in the serving process."""
        try:
            files = read_tried(Path(job.folder), report.digests, self.max_bytes)
        except MemoryError as error:
            raise TrialUnfinished("there is not enough memory for its files now") from error
        model = open_model(
            files,
            self.state.engine,
            frozenset(report.shaped),
            plan.config.batching.batching if report.batched else None,
            report.note,
            instances=plan.config.instances or 0,
            warmup=format_shapes(report.warmup),
        )
        warm_up(model, plan.config, report.warmup)
        return model

    def _open_isolated(
        self, job: TrialJob, plan: ModelPlan, report: TrialReport
    ) -> RepositoryModel:
        """Open a version in processes of its own."""
        settings, folder = self.state.settings, Path(job.folder)
        batching = plan.config.batching.batching if report.batched else None
        version = (folder.parent.name, folder.name)
        setup = IsolationSetup(
            **job.model_dump(include=set(LoadSettings.model_fields)),
            digests=report.digests,
            shaped=report.shaped,
            warmup=report.warmup,
            request_bytes=settings.max_memory_bytes,
            # The results of a batch belong to many requests; the service checks each request's.
            output_bytes=0 if batching else settings.max_output_bytes,
        )
        listener = self.readiness.listener(plan)
        pool = ProcessPool(version, setup, job.seconds, listener)
        self._pools.add(pool)
        model = start_isolated(
            version,
            pool,
            batching=batching,
            batching_note=report.note,
            instances=plan.config.instances or 1,
            warmup=format_shapes(report.warmup),
            reason=reasons.of_isolation(plan.config, report),
        )
        listener.attach(model)
        return model
