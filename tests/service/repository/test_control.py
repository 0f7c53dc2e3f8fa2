"""Models that an administrator loads and unloads."""

import asyncio
import contextlib
import shutil

import numpy as np
import pytest
from onnx_models import (
    endless,
    put,
    scaled,
)
from processes import trials
from waiting import until

from gatewave.service.errors import (
    ModelNotReady,
    ModelRefused,
    NameUnknown,
    SettingsInvalid,
)
from gatewave.service.observability.metrics import numbers
from gatewave.service.repository.repository import check
from gatewave.service.repository.trial.scheduler import TrialScheduler
from gatewave.service.serving.registry import VersionState
from gatewave.service.settings import Settings

X = np.float32([[1.0, 2.0]])
READY = VersionState("READY")


def test_an_admin_loads_and_unloads(root, served, admin):
    put(root, "m", "1", scaled(2))
    put(root, "later", "1", scaled(2), "load_at_start: false")

    async def scenario(s):
        assert s.state("m") == READY
        assert s.states("later") == {"": VersionState("UNAVAILABLE", "the model is not loaded")}
        await s.repository.load("later")
        assert s.states("later") == {"1": READY}
        await s.repository.unload("m")
        assert s.states("m") == {"": VersionState("UNAVAILABLE", "the model was unloaded")}
        with pytest.raises(Exception, match="m is not ready: the model was unloaded"):
            await s.infer("m", x=X)
        put(root, "m", "2", scaled(5))
        await s.repository.load("m")
        assert s.states("m") == {"2": READY}
        put(root, "new", "1", scaled(7))
        await s.repository.discover()
        assert s.states("new") == {"": VersionState("UNAVAILABLE", "the model is not loaded")}

    served(scenario, repository_mode="explicit", keys=admin)


def test_a_known_model_stays_known_while_it_loads(root, served, admin):
    """A request may come in each cycle of the event loop."""
    put(root, "m", "1", scaled(2))
    put(root, "m", "2", scaled(3), "versions: all")

    async def scenario(s):
        refusals, over = set(), asyncio.Event()

        async def asking():
            while not over.is_set():
                for version in ("", "1", "2"):
                    try:
                        s.runtime.registry.get("m", version)
                    except ModelNotReady as error:
                        refusals.add((version, str(error).partition("ready: ")[2]))
                await asyncio.sleep(0)

        asker = asyncio.create_task(asking())
        control = s.repository
        await asyncio.gather(
            *(action("m") for action in (control.unload, control.load, control.load) * 2),
            control.discover(),
        )
        await control.unload("m")
        await control.unload("m")
        over.set()
        await asker
        reasons = {
            (v, why) for v in ("", "1", "2") for why in ("the model was unloaded", "loading")
        }
        assert refusals == reasons
        put(root, "new", "1", scaled(2))
        await control.unload("new")
        assert s.states("new") == {"": VersionState("UNAVAILABLE", "the model was unloaded")}
        shutil.rmtree(root / "m")
        with pytest.raises(NameUnknown):
            await control.load("m")
        with pytest.raises(NameUnknown):
            s.runtime.registry.get("m")

    served(scenario, repository_mode="explicit", keys=admin)


def test_a_model_is_known_before_it_is_tried(root, served):
    async def scenario(s):
        put(root, "m", "1", scaled(2))
        scan = asyncio.create_task(s.repository.scan())
        await until(lambda: "m" in s.runtime.registry.models)
        assert s.states("m") == {"": VersionState("LOADING")}
        while not scan.done():
            for version in ("", "1"):
                with contextlib.suppress(ModelNotReady):
                    s.runtime.registry.get("m", version)
            await asyncio.sleep(0)
        assert s.states("m") == {"1": READY}

    served(scenario)


def test_metrics_of_removed_versions_are_removed(root, served):
    put(root, "m", "1", scaled(2), "versions: all")
    put(root, "m", "2", scaled(3))

    async def scenario(s):
        for version in ("1", "2"):
            await s.infer("m", version, x=X)
        removed = s.runtime.registry.get("m", "1")
        assert {("m", "1"), ("m", "2")} <= numbers().keys()
        shutil.rmtree(root / "m" / "1")
        await s.repository.scan()
        removed.meter.finished(0.0, (0.0, 0.0), (0.0, 0.0))  # a request that was under way
        assert ("m", "1") not in numbers()
        assert ("m", "2") in numbers()
        shutil.rmtree(root / "m")
        await s.repository.scan()
        assert ("m", "2") not in numbers()

    served(scenario)


def test_a_refused_load_gives_the_reason(root, served, admin):
    put(root, "m", "1", scaled(2))

    async def scenario(s):
        put(root, "m", "1", b"junk")
        for _ in range(2):  # it is tried again each time
            with pytest.raises(ModelRefused, match=r"m is refused: version 1: .*not an ONNX file"):
                await s.repository.load("m")
        assert (await s.infer("m", x=X))["y"].tolist() == [[2.0, 4.0]]
        put(root, "m", "1", scaled(3), "versions: 3")
        with pytest.raises(ModelRefused, match=r"config\.yaml: versions: expected"):
            await s.repository.load("m")
        for name in ("nobody", "../m", "..", "a b"):
            with pytest.raises(NameUnknown):
                await s.repository.load(name)
            with pytest.raises(NameUnknown):
                await s.repository.unload(name)

    served(scenario, repository_mode="explicit", keys=admin)


def test_a_load_continues_without_its_caller(root, served, admin):
    async def scenario(s):
        put(root, "m", "1", scaled(2))
        load = asyncio.create_task(s.repository.load("m"))
        await asyncio.sleep(0)
        load.cancel()
        await until(lambda: s.states("m") == {"1": READY})

    served(scenario, repository_mode="explicit", keys=admin)


def test_closing_ends_running_trials(root, served, admin):
    async def scenario(s):
        put(root, "m", "1", endless())
        load = asyncio.create_task(s.repository.load("m"))
        await until(trials)
        async with asyncio.timeout(20):  # the trial itself may take a minute
            await s.repository.close()
        assert not trials()
        with pytest.raises(asyncio.CancelledError):
            await load

    served(scenario, repository_mode="explicit", keys=admin)


def test_endless_trials_do_not_block_other_models(root, served, admin):
    """There are more endless trials than slots and places beside the slots."""

    async def scenario(s):
        s.repository.loader.scheduler = TrialScheduler(1, slot_seconds=0.1, min_seconds=0.5)
        for number in range(3):
            put(root, f"endless{number}", "1", endless())
        loads = [asyncio.create_task(s.repository.load(f"endless{n}")) for n in range(3)]
        await until(trials)
        put(root, "good", "1", scaled(2))
        await s.repository.load("good")
        assert s.state("good") == READY
        assert {s.state(f"endless{n}").state for n in range(3)} == {"LOADING"}
        for load in loads:
            load.cancel()

    served(scenario, repository_mode="explicit", keys=admin)


def test_contradictory_settings_are_refused(root, admin):
    def refusal(**settings):
        with pytest.raises(SettingsInvalid) as caught:
            check(Settings(**{"repository": root, "repository_mode": "explicit"} | settings))
        return str(caught.value)

    assert "needs an admin's key" in refusal()
    assert "needs an admin's key" in refusal(keys=admin.replace("admin", "infer"))
    assert "expected a folder" in refusal(repository=root / "none")
    check(Settings(repository=root, repository_mode="explicit", keys=admin))
    check(Settings(repository=root, repository_mode="poll", workers=2))
    check(Settings())
