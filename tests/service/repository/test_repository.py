"""Models of a folder: loaded, replaced, refused and unloaded."""

import asyncio
import contextlib
import errno
import gc
import os
import shutil
import sys
import weakref
from pathlib import Path

import numpy as np
import processes
import pytest
from onnx import TensorProto
from onnx_models import (
    averaged,
    branching,
    centred,
    conditional,
    endless,
    external,
    filled,
    filling,
    helper,
    model,
    nested,
    numpy_helper,
    port,
    put,
    scaled,
    unary,
)
from waiting import until

from gatewave.service.errors import (
    ControlOff,
    LimitExceeded,
    ModelNotReady,
    ModelRefused,
    NameUnknown,
    SettingsInvalid,
)
from gatewave.service.observability.metrics import numbers
from gatewave.service.repository import attempts
from gatewave.service.repository.repository import check
from gatewave.service.repository.trial.scheduler import TrialScheduler
from gatewave.service.serving.registry import VersionState
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.settings import Settings

X = np.float32([[1.0, 2.0]])
READY = VersionState("READY")


def test_models_of_the_folder_are_served(root, served):
    put(root, "twice", "1", scaled(2))
    put(root, "neg", "3", unary("Neg"))

    async def scenario(s):
        assert s.runtime.registry.index() == {"neg": {"3": READY}, "twice": {"1": READY}}
        assert (await s.infer("twice", x=X))["y"].tolist() == [[2.0, 4.0]]
        assert (await s.infer("neg", "3", x=X))["y"].tolist() == [[-1.0, -2.0]]
        assert s.runtime.registry.get("neg").trusted is False

    served(scenario)


def test_external_data_is_served(root, served):
    put(root, "m", "1", external("weights", offset=4, length=8))
    (root / "m" / "1" / "weights").write_bytes(np.float32([9, 2, 3]).tobytes())

    async def scenario(s):
        assert (await s.infer("m", x=X))["y"].tolist() == [[2.0, 6.0]]

    served(scenario)


def test_overwritten_external_data_is_not_served(root, served):
    path = put(root, "m", "1", external("weights"))
    weights = path.with_name("weights")
    weights.write_bytes(np.float32([2, 3]).tobytes())
    before = weights.stat()

    async def scenario(s):
        with weights.open("r+b") as file:
            file.write(np.float32([5, 7]).tobytes())
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert weights.stat().st_size == before.st_size
        assert (await s.infer("m", x=X))["y"].tolist() == [[2.0, 6.0]]
        await s.repository.scan()
        assert (await s.infer("m", x=X))["y"].tolist() == [[5.0, 14.0]]

    served(scenario)


def test_wanted_versions_are_served_and_the_highest_answers(root, served):
    for version in (1, 2, 10):
        put(root, "m", str(version), scaled(version), "versions: {latest: 2}")

    async def scenario(s):
        assert s.states("m") == {"2": READY, "10": READY}
        assert (await s.infer("m", x=X))["y"].tolist() == [[10.0, 20.0]]
        assert (await s.infer("m", "2", x=X))["y"].tolist() == [[2.0, 4.0]]
        with pytest.raises(NameUnknown, match="a version of m: 2, 10"):
            await s.infer("m", "1", x=X)

    served(scenario)


def test_refused_models_do_not_affect_others(root, served):
    put(root, "bad", "1", b"junk")
    put(root, "deep", "1", nested(5000))
    put(root, "zero", "0", unary("Neg"))
    put(root, "empty", "1", unary("Neg"))
    (root / "empty" / "1" / "model.onnx").unlink()
    put(root, "said", "1", unary("Neg"), "versoins: all")
    put(root, "m", "1", unary("Neg"))

    async def scenario(s):
        assert "is not an ONNX file" in s.state("bad").reason
        assert "nested deeper" in s.state("deep").reason
        assert "positive integer without leading zeros" in s.state("zero", "0").reason
        assert "does not exist" in s.state("empty").reason
        assert "versoins: expected no field" in s.state("said", "").reason
        assert [model.name for model in s.runtime.registry] == ["m"]

    served(scenario)


def test_invalid_and_taken_names_are_refused(root, served):
    put(root, "mine", "1", unary("Neg"))

    async def first(s):
        return s.runtime.registry.get("mine")

    activation = served(first)
    put(root, "a name", "1", unary("Neg"))
    (root / b"\xff\xfe".decode(errors="surrogateescape")).mkdir()

    async def scenario(s):
        assert s.runtime.registry.get("mine") is activation
        assert "is the name of an activation" in s.state("mine", "").reason
        assert "the name of a model must match" in s.state("a name", "").reason
        assert "the name of a model must match" in s.state("\\udcff\\udcfe", "").reason
        for name in ("mine", "a name"):
            shutil.rmtree(root / name)
        await s.repository.scan()
        assert s.states("mine") == {"1": READY}
        assert s.states("a name") == {}

    served(scenario, activations=[activation])


@pytest.mark.parametrize("count", [1 << 40, 1 << 29])
def test_a_model_that_needs_all_memory_is_refused(root, served, count):
    put(root, "m", "1", filled(count))

    async def scenario(s):
        assert "more memory than all models may use" in s.state("m").reason

    served(scenario)


def repeated():
    """Repeat a text as often as the request asks."""
    node = helper.make_node("Expand", ["text", "shape"], ["y"])
    text = port("text", [1], TensorProto.STRING)
    shape = port("shape", [1], TensorProto.INT64)
    return model([node], [text, shape], [port("y", ["k"], TensorProto.STRING)])


def test_results_of_unknown_size_are_limited(root, served):
    put(root, "zeros", "1", filling(), "batching: off")
    put(root, "texts", "1", repeated(), "batching: off")

    async def scenario(s):
        fits = await s.infer("zeros", shape=np.array([250]))
        assert fits["y"].shape == (250,)
        with pytest.raises(LimitExceeded, match="at most 1000 bytes, got 1004"):
            await s.infer("zeros", shape=np.array([251]))
        text = np.array(["é" * 10], np.object_)
        fits = await s.infer("texts", text=text, shape=np.array([35]))
        assert fits["y"].tolist() == ["é" * 10] * 35
        with pytest.raises(LimitExceeded, match="got 1008"):
            await s.infer("texts", text=text, shape=np.array([36]))

    served(scenario, max_output_bytes=1000)


def test_an_endless_trial_is_ended(root, served):
    put(root, "m", "1", endless())

    async def scenario(s):
        assert s.state("m").reason == "the trial took more than 4 seconds"

    served(scenario, trial_seconds=4)


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


def test_unreadable_models_do_not_affect_others(root, served, monkeypatch, caplog):
    """Errors of the system are simulated, because the superuser may read everything."""
    put(root, "said", "1", unary("Neg"), "batching: off")
    put(root, "shut", "1", unary("Neg"))
    put(root, "odd", "1", unary("Neg"))
    put(root, "m", "1", unary("Neg"))

    def refusing(function, *paths):
        def refuse(path, *arguments, **more):
            if path in paths:
                raise PermissionError(errno.EACCES, "Permission denied")
            return function(path, *arguments, **more)

        return refuse

    monkeypatch.setattr(os, "open", refusing(os.open, root / "said" / "config.yaml"))
    monkeypatch.setattr(Path, "iterdir", refusing(Path.iterdir, root / "shut"))
    monkeypatch.setattr(os, "walk", refusing(os.walk, root / "odd" / "1"))

    async def scenario(s):
        assert (
            s.state("said", "").reason == "config.yaml: the file cannot be read: Permission denied"
        )
        assert s.state("shut", "").reason == "the model's folder cannot be read: Permission denied"
        assert s.state("odd", "") == VersionState(
            "UNAVAILABLE", "the model's folder cannot be read"
        )
        assert [model.name for model in s.runtime.registry] == ["m"]
        await s.repository.scan()
        told = [record for record in caplog.records if record.exc_info]
        assert [record.model for record in told] == ["odd"], "once, and not at every poll"
        monkeypatch.undo()
        await s.repository.scan()
        assert {model.name for model in s.runtime.registry} == {"said", "shut", "odd", "m"}

    served(scenario)


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


def test_refused_batching_is_reported(root, served):
    softmax = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    put(root, "m", "1", model([softmax], [port("x")], [port("y")]), "batching: {max_size: 8}")
    put(root, "fits", "1", unary("Neg"), "batching: {max_size: 8, max_delay_microseconds: 100}")

    async def scenario(s):
        assert s.state("m").state == "READY"
        assert "not batched: y of 2 rows together differs" in s.state("m").reason
        assert s.runtime.registry.get("m").batching is None
        batching = s.runtime.registry.get("fits").batching
        assert (batching.max_size, batching.max_delay) == (8, 1e-4)
        rows = [np.float32([[i, -i]]) for i in range(20)]
        async with s.busy():
            asked = await s.waiting(*(s.infer("fits", x=row) for row in rows))
        answers = await asyncio.gather(*asked)
        assert [a["y"].tolist() for a in answers] == [(-row).tolist() for row in rows]
        assert numbers()["fits", "1"]["rows"] == (3, 20)

    served(scenario)


@pytest.mark.parametrize("make", [averaged, branching, centred, conditional])
def test_dependent_rows_are_not_batched_by_default(root, served, make):
    put(root, "m", "1", make())
    rows = [np.float32([[i, -i]]) * scale for i in range(1, 5) for scale in (0.1, -100.0)]

    async def scenario(s):
        assert s.runtime.registry.get("m").batching is None
        alone = [await s.infer("m", x=row) for row in rows]
        async with s.busy():
            asked = await s.waiting(*(s.infer("m", x=row) for row in rows))
        for answer, expected in zip(await asyncio.gather(*asked), alone, strict=True):
            assert answer["y"].tolist() == expected["y"].tolist()

    served(scenario)


def perceptron():
    """``y = sigmoid(x · w)``, 16 numbers of each row from 64."""
    weights = np.random.default_rng(7).normal(size=(64, 16)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["y"]),
    ]
    ports = [port("x", ("n", 64))], [port("y", ("n", 16))]
    return model(nodes, *ports, [numpy_helper.from_array(weights, "w")])


def tangent():
    return unary("Tanh", ("n", 64))


@pytest.mark.parametrize("make", [perceptron, tangent])
def test_batched_results_equal_single_results_within_one_ulp(root, served, make):
    name = make.__name__
    put(root, name, "1", make(), "batching: {max_size: 8}")
    source = np.random.default_rng(3)
    rows = [source.normal(size=(count, 64)).astype(np.float32) for count in (1, 2, 1, 4)]

    async def scenario(s):
        async with s.busy():
            asked = await s.waiting(*(s.infer(name, x=row) for row in rows))
        together = await asyncio.gather(*asked)
        assert numbers()[name, "1"]["rows"] == (1, 8)
        alone = s.runtime.registry.get(name)
        for row, answer in zip(rows, together, strict=True):
            exact = alone.run({"x": row}, ("y",), {})["y"]
            np.testing.assert_array_max_ulp(answer["y"], exact, maxulp=1)

    served(scenario)


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


def trials():
    """Return the trials of this process that have loaded ONNX Runtime."""
    return [
        pid
        for pid in processes.children()
        if "repository.trial.program" in processes.read(Path(f"/proc/{pid}/cmdline"))
        and "onnxruntime" in processes.read(Path(f"/proc/{pid}/maps"))
    ]


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
