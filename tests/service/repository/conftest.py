import asyncio
import contextlib
import threading

import pytest
from onnx_models import load, put
from waiting import until

from gatewave.service.activations.catalogue import Catalogue
from gatewave.service.onnx.engine import Engine
from gatewave.service.repository.files import read_version
from gatewave.service.repository.isolation.messages import IsolationSetup
from gatewave.service.repository.isolation.model import start_isolated
from gatewave.service.repository.isolation.pool import ProcessPool
from gatewave.service.repository.repository import Repository
from gatewave.service.security.keys import new_key
from gatewave.service.serving.memory import Budget
from gatewave.service.serving.pipeline import Pipeline
from gatewave.service.serving.registry import Registry
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.worker_pool import WorkerPool
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState


@pytest.fixture(scope="session")
def engine():
    return Engine.start("cpu", threads=1)


@pytest.fixture
def start_processes():
    """Return a function that starts processes for a version; they end with the test."""
    started = []

    def start(folder, *, batching=None, instances=1, output_bytes=0, report=lambda _: None):
        version = (folder.parent.name, folder.name)
        found, files = read_version(folder, folder, 1 << 30)
        setup = IsolationSetup(
            folder=str(folder),
            config="warmup: off",
            digests=dict(files.digests),
            max_bytes=1 << 30,
            shaped=sorted(found.shaped),
            device="cpu",
            kernels="function",
            instructions="",
            threads=1,
            arena_bytes=1 << 28,
            request_bytes=1 << 28,
            output_bytes=output_bytes,
        )
        pool = ProcessPool(version, setup, 60, report)
        started.append(pool)
        return start_isolated(
            version, pool, batching=batching, instances=instances, reason="a test says so"
        )

    yield start
    for pool in started:
        pool.close()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.fixture
def open_model(root, engine):
    """Return a function that opens a model in this process."""

    def open_(made, batching=None):
        return load(put(root, "m", "1", made), engine, batching)

    return open_


LANES = 2


class Served:
    """Repository that is served in this process."""

    def __init__(self, runtime, repository):
        self.runtime = runtime
        self.repository = repository

    def states(self, name):
        return self.runtime.registry.index().get(name, {})

    def state(self, name, version="1"):
        return self.states(name)[version]

    @contextlib.asynccontextmanager
    async def busy(self):
        """Return a context in which all threads are busy: requests wait."""
        worker_pool, gate = self.runtime.pipeline.worker_pool, threading.Event()
        holding = [asyncio.create_task(worker_pool.run(gate.wait)) for _ in range(LANES)]
        await asyncio.sleep(0)
        try:
            yield
        finally:
            gate.set()
            await asyncio.gather(*holding)

    async def waiting(self, *coroutines):
        """Start tasks, and return them when all of them wait for a thread."""
        worker_pool = self.runtime.pipeline.worker_pool
        count = worker_pool.queue.length + len(coroutines)
        tasks = [asyncio.create_task(each) for each in coroutines]
        await until(lambda: worker_pool.queue.length == count)
        return tasks

    async def infer(self, name, version="", **inputs):
        model = self.runtime.registry.get(name, version)
        model.check(inputs)
        pipeline = self.runtime.pipeline
        with pipeline.budget.permit() as permit:
            return await pipeline.infer(InferenceRequest(model, inputs, model.output_names), permit)


@pytest.fixture
def serving(root, engine):
    """Return a context manager that serves the repository with the given settings."""

    @contextlib.asynccontextmanager
    async def context(*, trial_seconds=60.0, activations=(), **settings):
        settings = Settings(
            repository=root, device="cpu", threads=1, arena_bytes=1 << 28, **settings
        )
        pipeline = Pipeline(
            WorkerPool(LANES, 256),
            Budget(1 << 30),
            inline_bytes=0,
            output_bytes=settings.max_output_bytes,
        )
        catalogue = Catalogue(root, {}, engine)
        runtime = ServiceState(settings, engine, catalogue, Registry(activations), pipeline)
        repository = await Repository.start(runtime, trial_seconds)
        try:
            yield Served(runtime, repository)
        finally:
            await repository.close()
            runtime.close()

    return context


@pytest.fixture
def served(serving):
    """Return a function that runs a scenario, a coroutine function of a `Served`."""

    def run(scenario, **options):
        async def whole():
            async with serving(**options) as served:
                return await scenario(served)

        return asyncio.run(whole())

    return run


@pytest.fixture(scope="session")
def admin():
    """Return the entry of an admin's key for the settings."""
    return new_key("admin")[1]
