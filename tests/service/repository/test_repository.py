"""Models of a folder: loaded, limited and refused."""

import asyncio
import errno
import os
import shutil
from pathlib import Path

import numpy as np
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

from gatewave.service.errors import (
    LimitExceeded,
    NameUnknown,
)
from gatewave.service.observability.metrics import numbers
from gatewave.service.serving.registry import VersionState

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
