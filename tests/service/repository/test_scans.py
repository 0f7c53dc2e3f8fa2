"""Changed files of a repository: loaded, replaced and unloaded."""

import asyncio
import gc
import shutil
import sys
import weakref

import numpy as np
import pytest
from onnx_models import (
    endless,
    filled,
    put,
    scaled,
    unary,
)
from processes import trials
from waiting import until

from gatewave.service.errors import (
    ControlOff,
    ModelRefused,
    NameUnknown,
)
from gatewave.service.repository import attempts
from gatewave.service.serving.registry import VersionState
from gatewave.service.serving.request import InferenceRequest

X = np.float32([[1.0, 2.0]])
READY = VersionState("READY")


def test_a_scan_loads_changed_files(root, served):
    put(root, "m", "1", scaled(2))

    async def scenario(s):
        put(root, "m", "1", scaled(3))
        await s.repository.scan()
        assert (await s.infer("m", x=X))["y"].tolist() == [[3.0, 6.0]]
        loaded = s.runtime.registry.get("m")
        await s.repository.scan()
        assert s.runtime.registry.get("m") is loaded

    served(scenario)


def test_a_failed_reload_keeps_the_old_model(root, served):
    put(root, "m", "1", scaled(2))

    async def scenario(s):
        for attempt in (b"junk", filled(1 << 40), unary("NoSuchOperator")):
            put(root, "m", "1", attempt)
            await s.repository.scan()
            state = s.state("m")
            assert state.state == "READY"
            assert state.reason
            assert (await s.infer("m", x=X))["y"].tolist() == [[2.0, 4.0]]
        put(root, "m", "1", scaled(3))
        await s.repository.scan()
        assert s.state("m") == READY
        assert (await s.infer("m", x=X))["y"].tolist() == [[3.0, 6.0]]

    served(scenario)


def test_a_refused_version_keeps_the_one_before(root, served):
    put(root, "m", "1", scaled(2))

    async def scenario(s):
        put(root, "m", "2", b"junk")
        await s.repository.scan()
        assert s.state("m", "1") == READY
        assert s.state("m", "2").state == "UNAVAILABLE"
        assert (await s.infer("m", x=X))["y"].tolist() == [[2.0, 4.0]]
        put(root, "m", "2", scaled(5))
        await s.repository.scan()
        assert s.states("m") == {"2": READY}

    served(scenario)


def test_an_invalid_configuration_keeps_the_served_model(root, served):
    put(root, "m", "1", scaled(2), "versions: all")

    async def scenario(s):
        good = (root / "m" / "config.yaml").rename(root / "good.yaml")
        (root / "m" / "config.yaml").write_text("versions: [")
        await s.repository.scan()
        assert s.state("m").state == "READY"
        assert "config.yaml" in s.state("m").reason
        assert "config.yaml" in s.state("m", "").reason
        good.rename(root / "m" / "config.yaml")
        await s.repository.scan()
        assert s.states("m") == {"1": READY}

    served(scenario)


def test_removed_versions_are_unloaded(root, served):
    for version in (1, 2):
        put(root, "m", str(version), scaled(version), "versions: all")

    async def scenario(s):
        shutil.rmtree(root / "m" / "2")
        await s.repository.scan()
        assert s.states("m") == {"1": READY}
        shutil.rmtree(root / "m")
        await s.repository.scan()
        with pytest.raises(NameUnknown):
            s.runtime.registry.get("m")

    served(scenario)


def test_polling_loads_changed_files(root, served):
    put(root, "m", "1", scaled(2))

    async def scenario(s):
        before = s.runtime.registry.get("m")
        put(root, "m", "1", scaled(3))
        await until(lambda: s.runtime.registry.get("m") is not before)
        assert (await s.infer("m", x=X))["y"].tolist() == [[3.0, 6.0]]

    served(scenario, repository_mode="poll", repository_poll_seconds=0.01)


def test_a_long_trial_does_not_stop_polling(root, served):
    put(root, "m", "1", scaled(2))

    async def scenario(s):
        put(root, "slow", "1", endless())
        await until(trials)
        put(root, "m", "1", scaled(3))
        before = s.runtime.registry.get("m")
        await until(lambda: s.runtime.registry.get("m") is not before)
        assert s.state("slow") == VersionState("LOADING")

    served(scenario, repository_mode="poll", repository_poll_seconds=0.01)


def test_an_unload_does_not_wait_for_trials(root, served, admin):
    put(root, "m", "1", scaled(2))

    async def scenario(s):
        put(root, "slow", "1", endless())
        load = asyncio.create_task(s.repository.load("slow"))
        await until(trials)
        async with asyncio.timeout(20):  # the trial itself may take a minute
            await s.repository.unload("m")
        assert not load.done()
        await s.repository.close()
        await asyncio.wait([load])

    served(scenario, repository_mode="explicit", keys=admin)


def test_unfinished_trials_are_repeated(root, served, monkeypatch):
    async def scenario(s):
        put(root, "m", "1", scaled(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(root / "none"))
            await s.repository.scan()
        assert "cannot be started" in s.state("m").reason
        await s.repository.scan()
        assert s.state("m").state == "UNAVAILABLE"
        put(root, "now", "1", scaled(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(root / "none"))
            patch.setattr(attempts, "FIRST_WAIT", 0.0)
            await s.repository.scan()
        await s.repository.scan()
        assert s.state("now") == READY

    served(scenario)


def test_the_delay_of_attempts_doubles_up_to_a_limit():
    files, others = (("a", 1, 1, 1),), (("a", 2, 1, 1),)
    once = attempts.unfinished(files, None)
    assert once.is_of(files)
    assert not once.is_of(others)
    assert attempts.unfinished(files, once).wait == 2 * once.wait
    assert attempts.unfinished(others, once).wait == once.wait
    assert attempts.unfinished(files, attempts.Attempt(files)).wait == once.wait
    often = once
    for _ in range(20):
        often = attempts.unfinished(files, often)
    assert often.wait == attempts.MAX_WAIT


def test_a_fixed_repository_is_read_once(served):
    async def scenario(s):
        assert not s.repository.tasks
        for action in (s.repository.load, s.repository.unload):
            with pytest.raises(ControlOff, match="REPOSITORY_MODE=explicit"):
                await action("m")

    served(scenario)


def test_no_request_fails_while_versions_are_swapped(root, served):
    put(root, "m", "1", scaled(1), "batching: {max_size: 8}")

    async def scenario(s):
        answers, done = [], asyncio.Event()

        async def calling():
            while not done.is_set():
                (row,) = (await s.infer("m", x=X))["y"].tolist()
                answers.append(row[0])
                await asyncio.sleep(0)

        callers = [asyncio.create_task(calling()) for _ in range(8)]
        for factor in (2, 3, 4):
            put(root, "m", str(factor), scaled(factor))
            await s.repository.scan()
            put(root, "m", str(factor), scaled(-factor))
            await s.repository.scan()
        done.set()
        await asyncio.gather(*callers)
        assert set(answers) <= {1, 2, -2, 3, -3, 4, -4}
        assert {1, 2, -2, 3, -3} <= set(answers)

    served(scenario)


@pytest.mark.parametrize("batching", ["off", "{max_size: 8}"])
def test_requests_to_a_replaced_model_are_finished(root, served, batching):
    put(root, "m", "1", scaled(2), f"batching: {batching}")

    async def scenario(s):
        async with s.busy():
            asked = await s.waiting(s.infer("m", x=X), s.infer("m", x=X))
            put(root, "m", "1", scaled(3))
            await s.repository.scan()
            asked += await s.waiting(s.infer("m", x=X))
        answers = await asyncio.gather(*asked)
        assert [answer["y"].tolist() for answer in answers] == [[[2, 4]], [[2, 4]], [[3, 6]]]

    served(scenario)


def test_replaced_models_are_freed(root, served):
    put(root, "m", "1", scaled(2), "batching: {max_size: 8}")

    async def scenario(s):
        await s.infer("m", x=X)
        model = s.runtime.registry.get("m")
        old = weakref.ref(model)
        put(root, "m", "1", scaled(3))
        await s.repository.scan()
        # A request whose body came slowly has found the model before that.
        pipeline = s.runtime.pipeline
        with pipeline.budget.permit() as permit:
            late = await pipeline.infer(InferenceRequest(model, {"x": X}, ("y",)), permit)
        assert late["y"].tolist() == [[2.0, 4.0]]
        del model
        await asyncio.sleep(0)
        gc.collect()
        assert old() is None

    served(scenario)


def test_files_that_change_during_a_load_are_refused(root, served, admin):
    async def scenario(s):
        put(root, "m", "1", scaled(2))
        load, factor = asyncio.create_task(s.repository.load("m")), 2
        while not load.done():  # each reading of the file finds another one
            factor += 1
            put(root, "m", "1", scaled(factor))
            await asyncio.sleep(0)
        with pytest.raises(ModelRefused, match=r"the files changed while|was replaced while"):
            await load
        await s.repository.load("m")
        assert s.states("m") == {"1": READY}
        assert (await s.infer("m", x=X))["y"].tolist() == [[factor, 2 * factor]]

    served(scenario, repository_mode="explicit", keys=admin)
