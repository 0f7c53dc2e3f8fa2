"""Models that are computed in isolated processes."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx_models
import processes
import pytest
from onnx import TensorProto
from onnx_models import endless, filling, helper, model, numpy_helper, port, put, scaled, unary
from waiting import eventually, until

from gatewave.service.errors import LimitExceeded, ModelFailed, ModelNotReady
from gatewave.service.observability.metrics import RESTARTS, numbers
from gatewave.service.oip.metadata import model_config, model_parameters
from gatewave.service.serving.registry import VersionState
from gatewave.service.system.cancellation import CancelToken

READY = VersionState("READY")
INT32 = TensorProto.INT32
WORST = {"a": np.int32([-(2**31)]), "b": np.int32([-1])}
PLAIN = {"a": np.int32([7]), "b": np.int32([2])}


def dividing():
    node = helper.make_node("Div", ["a", "b"], ["y"], name="d")
    return model([node], [port(n, ("n",), INT32) for n in "ab"], [port("y", ("n",), INT32)])


def convolving():
    """Convolution with a kernel from the request: with size 0, it never ends."""
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    inputs = [port("x", (1, 1, "h", "w")), port("w", (1, 1, "k", "l"))]
    return model([node], inputs, [port("y", (1, 1, "o", "p"))])


IMAGE = np.ones((1, 1, 4, 4), np.float32)
FOREVER = {"x": IMAGE, "w": np.ones((1, 1, 0, 0), np.float32)}
AT_ONCE = {"x": IMAGE, "w": np.ones((1, 1, 4, 4), np.float32)}


def children():
    """Return the model processes that this process has started."""
    return {pid for pid in processes.children() if is_a_model(pid)}


@pytest.fixture(autouse=True)
def no_children():
    """Wait for the end of earlier processes: the remaining ones belong to the test."""
    eventually(lambda: not children())
    yield
    gc.collect()


def is_a_model(pid):
    return "repository.isolation.program" in processes.read(Path(f"/proc/{pid}/cmdline"))


def is_computing(pid):
    """Return True once the process has used more processor time."""

    def ticks():
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])

    before = ticks()
    eventually(lambda: ticks() > before + 5)
    return True


def run(made, token=None, /, **inputs):
    return made.run(inputs, made.output_names, {}, token)


def running(made, token, inputs, failures):
    """Start a thread with a run that will fail."""

    def compute():
        with pytest.raises(ModelFailed) as caught:
            run(made, token, **inputs)
        failures.append(str(caught.value))

    thread = threading.Thread(target=compute)
    thread.start()
    return thread


def test_a_crash_fails_its_request_and_no_other(root, served):
    put(root, "m", "1", dividing())
    put(root, "other", "1", scaled(2))

    async def scenario(s):
        with pytest.raises(ModelFailed, match="by zero"):
            await s.infer("m", a=np.int32([7]), b=np.int32([0]))
        for _ in range(2):
            results = await asyncio.gather(
                s.infer("m", **WORST),
                s.infer("other", x=np.float32([[1, 2]])),
                s.infer("m", **PLAIN),
                return_exceptions=True,
            )
            assert isinstance(results[0], ModelFailed)
            assert str(results[0]) == "the model's process was ended by SIGFPE"
            assert results[1]["y"].tolist() == [[2, 4]]
            assert results[2]["y"].tolist() == [3]
        assert s.state("m") == READY
        assert RESTARTS.labels("m", "1")._value.get() == 2  # noqa: SLF001

    served(scenario)


def test_repeated_crashes_delay_the_next_process(root, served):
    put(root, "m", "1", dividing())

    async def scenario(s):
        while s.state("m") == READY:
            with pytest.raises((ModelFailed, ModelNotReady)):
                await s.infer("m", **WORST)
            await asyncio.sleep(0)
        state = s.state("m")
        assert state.state == "UNAVAILABLE"
        assert state.reason.startswith(
            "the model's process was ended by SIGFPE; it is started again in"
        )
        with pytest.raises(ModelNotReady, match="was ended by SIGFPE"):
            await s.infer("m", **PLAIN)
        await until(lambda: s.state("m") == READY)
        assert (await s.infer("m", **PLAIN))["y"].tolist() == [3]

    served(scenario)


def test_the_configuration_decides(root, served):
    put(root, "auto", "1", dividing())
    put(root, "div", "1", dividing(), "isolation: none")
    put(root, "plain", "1", scaled(2), "isolation: process\ninstances: 2")
    put(root, "untried", "1", scaled(2), "warmup: off")

    async def scenario(s):
        index = {name: s.runtime.registry.get(name) for name in ("auto", "div", "plain", "untried")}
        why = "process: node d (Div) on INT32 can trap"
        assert model_config(index["auto"])["parameters"]["isolation"] == {"string_value": why}
        assert model_parameters(index["auto"])["isolation"] == why
        assert index["div"].isolation == ""
        assert index["plain"].isolation == "process: config.yaml requests it"
        assert model_config(index["plain"])["instance_group"] == [{"kind": "KIND_CPU", "count": 2}]
        assert "warmup: off" in index["untried"].isolation
        assert len(children()) == 4

    served(scenario)


def test_isolated_requests_are_computed_together(root, served):
    put(root, "m", "1", scaled(2), "isolation: process\nbatching: {max_size: 8}")

    async def scenario(s):
        rows = [np.float32([[n, n]]) for n in range(4)]
        async with s.busy():
            asked = await s.waiting(*(s.infer("m", x=row) for row in rows))
        together = await asyncio.gather(*asked)
        assert [each["y"].tolist() for each in together] == [(2 * row).tolist() for row in rows]
        assert numbers()["m", "1"]["rows"] == (1, 4)

    served(scenario)


def test_a_crash_in_a_batch_fails_only_its_request(root, served):
    """Three successive ends delay the next process, and the last request waits for it."""
    nodes = [
        helper.make_node("Add", ["b", "two"], ["more"]),
        helper.make_node("Div", ["a", "more"], ["y"]),
    ]
    ports = [port(name, ("n",), INT32) for name in "aby"]
    two = numpy_helper.from_array(np.int32([2]), "two")
    made = model(nodes, ports[:2], ports[2:], [two])
    put(root, "m", "1", made, "batching: {max_size: 8}")
    worst = WORST | {"b": np.int32([-3])}

    async def scenario(s):
        assert s.runtime.registry.get("m").batching is not None
        async with s.busy():
            asked = await s.waiting(*(s.infer("m", **each) for each in (worst, worst, PLAIN)))
        *bad, good = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(each) for each in bad} == {"the model's process was ended by SIGFPE"}
        assert good["y"].tolist() == [1]

    served(scenario)


def test_unloading_ends_the_process(root, served, admin):
    put(root, "m", "1", dividing())

    async def scenario(s):
        (pid,) = children()
        await s.repository.unload("m")
        await until(lambda: not is_a_model(pid))
        await s.repository.load("m")
        (other,) = children()
        put(root, "m", "1", scaled(2))
        await s.repository.load("m")
        await until(lambda: not is_a_model(other))

    served(scenario, repository_mode="explicit", keys=admin)


@pytest.fixture
def isolate(root, start_processes):
    def start(made, **options):
        return start_processes(put(root, "m", "1", made).parent, **options)

    return start


def test_a_run_that_ignores_cancellation_is_killed(isolate):
    made, token, failures = isolate(convolving()), CancelToken(), []
    (pid,) = children()
    thread = running(made, token, FOREVER, failures)
    assert is_computing(pid)
    token.cancel()
    thread.join(30)
    assert failures == ["the model's process was ended: its run did not end after its cancellation"]
    assert run(made, **AT_ONCE)["y"].tolist() == [[[[16.0]]]]


def test_a_cancelled_run_keeps_its_process(isolate):
    made, token, failures = isolate(endless()), CancelToken(), []
    before = children()
    thread = running(made, token, {"x": np.ones((1, 2), np.float32)}, failures)
    assert is_computing(*before)
    token.cancel()
    thread.join(30)
    assert failures == ["the run was cancelled: no caller waits for it"]
    assert children() == before


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGBUS])
def test_the_end_of_a_process_is_reported(isolate, sent):
    made, failures = isolate(convolving()), []
    (pid,) = children()
    thread = running(made, None, FOREVER, failures)
    assert is_computing(pid)
    os.kill(pid, sent)
    thread.join(30)
    assert failures == [f"the model's process was ended by {sent.name}"]
    assert run(made, **AT_ONCE)["y"].tolist() == [[[[16.0]]]]


def test_a_stopped_process_is_replaced(isolate):
    """The request is larger than the buffer of the socket, which blocks the sender."""
    made, token, failures = isolate(unary("Relu", ("n",))), CancelToken(), []
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    thread = running(made, token, {"x": np.ones(1 << 22, np.float32)}, failures)
    token.cancel()
    thread.join(30)
    assert len(failures) == 1
    assert run(made, x=np.float32([-1, 2]))["y"].tolist() == [0, 2]


def test_processes_ignore_signals_to_the_service(isolate):
    made = isolate(scaled(2))
    (pid,) = children()
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, sent)
    assert run(made, x=np.float32([[1, 2]]))["y"].tolist() == [[2, 4]]
    assert children() == {pid}


def test_instances_compute_concurrently(isolate):
    made, token, failures = isolate(convolving(), instances=2), CancelToken(), []
    before = children()
    assert len(before) == 2
    thread = running(made, token, FOREVER, failures)
    for _ in range(3):
        assert run(made, **AT_ONCE)["y"].tolist() == [[[[16.0]]]]
    token.cancel()
    thread.join(30)
    assert len(failures) == 1


def test_large_tensors_are_passed(isolate):
    made = isolate(unary("Neg", ("n",)))
    x = np.arange(1 << 24, dtype=np.float32)  # 64 MiB
    assert np.array_equal(run(made, x=x)["y"], -x)


def test_large_results_are_refused_in_the_process(isolate):
    made = isolate(filling(), output_bytes=1 << 10)
    with pytest.raises(LimitExceeded) as caught:
        run(made, shape=np.array([1 << 20]))
    assert str(caught.value) == "outputs: expected outputs of at most 1024 bytes, got 4194304"
    assert len(run(made, shape=np.array([4]))["y"]) == 4


OUTLIVED = """
import pathlib, sys
import numpy as np
import onnx_models
from gatewave.service.repository.files import read_version
from gatewave.service.repository.isolation.messages import IsolationSetup
from gatewave.service.repository.isolation.model import start_isolated
from gatewave.service.repository.isolation.pool import ProcessPool

folder = pathlib.Path(sys.argv[1])
digests = dict(read_version(folder, folder, 1 << 20)[1].digests)
setup = IsolationSetup(
    folder=str(folder), config="warmup: off", digests=digests, max_bytes=1 << 20,
    shaped=["x", "w", "y"], device="cpu", kernels="function", instructions="", threads=1,
    arena_bytes=1 << 28, request_bytes=1 << 28, output_bytes=0,
)
pool = ProcessPool(("m", "1"), setup, 60, print)
made = start_isolated(("m", "1"), pool, batching=None, instances=1, reason="")
print(pool.idle[0].pid, flush=True)
x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 0, 0), np.float32)
made.run({"x": x, "w": w}, ("y",), {})
"""


def test_no_process_outlives_the_service(root):
    folder = put(root, "m", "1", convolving()).parent
    paths = os.pathsep.join((str(Path(onnx_models.__file__).parent), *sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", OUTLIVED, folder],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        pid = int(service.stdout.readline())
        assert is_computing(pid)
        service.kill()
    eventually(lambda: not is_a_model(pid))
