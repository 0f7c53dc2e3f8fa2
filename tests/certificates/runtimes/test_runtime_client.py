"""Runtimes in separate processes: answers, crashes and timeouts."""

import numpy as np
import pytest

from gatewave.certificates.runtimes import catalogue, environments
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.errors import NotRunnableError, TargetError
from gatewave.graphs.processes.errors import Lost, Refused

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph '
DOUBLE = HEAD + "(float[N] x) => (float[N] y) { y = Add(x, x) }"
CARELESS = (
    HEAD
    + """(int64[N] i) => (int64[N] k) <int64 least = {-9223372036854775808}, int64 zero = {0}> {
    below = Less(i, zero) top = Where(below, least, least) k = Div(top, i) }"""
)
"""Division of the least integer by -1, which ends the process."""

ENDLESS = (
    HEAD
    + """(float[N] x) => (float[N] y) <int64 n = {9000000000000000000}, bool yes = {1}> {
    y = Loop (n, yes, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] t) {
        d = Identity(c) t = Sigmoid(s) }> }"""
)


@pytest.fixture(params=["reference", "onnxruntime"])
def running(request):
    with RuntimeClient(catalogue.find(request.param)) as running:
        yield running


@pytest.fixture
def onnxruntime():
    with RuntimeClient(catalogue.find("onnxruntime"), seconds=5.0) as running:
        yield running


def test_one_model_after_the_other_is_run(running, saved):
    x = np.array([1.5, np.nan, -np.inf], np.float32)
    running.load(saved(DOUBLE), ["x"], ["y"])
    np.testing.assert_array_equal(running.run({"x": x})["y"], x + x)
    running.load(saved(DOUBLE.replace("Add", "Mul")), ["x"], ["y"])
    np.testing.assert_array_equal(running.run({"x": x})["y"], x * x)
    assert running.run({"x": np.zeros(0, np.float32)})["y"].shape == (0,)


def test_a_runtime_tells_its_versions(running):
    names = {"reference": "onnx", "onnxruntime": "onnxruntime"}
    assert names[running.runtime.name] in running.versions()


def test_what_a_runtime_refuses_is_told_in_its_words_and_it_goes_on(running, saved):
    with pytest.raises(Refused, match="Nonsense"):
        running.load(saved(DOUBLE.replace("Add", "Nonsense")), ["x"], ["y"])
    running.load(saved(DOUBLE), ["x"], ["y"])
    with pytest.raises(Refused, match="x"):
        running.run({"other": np.ones(3, np.float32)})
    assert running.run({"x": np.ones(3, np.float32)})["y"].tolist() == [2, 2, 2]


def test_a_crash_is_told_and_the_next_model_has_a_new_process(onnxruntime, saved):
    onnxruntime.load(saved(CARELESS), ["i"], ["k"])
    with pytest.raises(Lost, match="running the model crashed the process, SIGFPE"):
        onnxruntime.run({"i": np.array([-1])})
    with pytest.raises(Lost, match="the process has ended"):
        onnxruntime.run({"i": np.array([1])})
    onnxruntime.load(saved(DOUBLE), ["x"], ["y"])
    assert onnxruntime.run({"x": np.ones(1, np.float32)})["y"].tolist() == [2]


def test_what_takes_too_long_is_ended(saved):
    with RuntimeClient(catalogue.find("onnxruntime"), seconds=2.0) as running:
        running.load(saved(ENDLESS), ["x"], ["y"])
        with pytest.raises(Lost, match="running the model took more than 2 seconds"):
            running.run({"x": np.ones(3, np.float32)})


def test_a_runtime_that_is_not_installed_says_how_to(tmp_path, monkeypatch):
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    runtime = catalogue.find("onnxruntime-1.20")
    assert not environments.is_installed(runtime)
    with pytest.raises(NotRunnableError, match=r"gatewave runtimes install onnxruntime-1\.20"):
        RuntimeClient(runtime)


def test_an_environment_of_an_older_list_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    runtime = catalogue.find("onnxruntime-1.20")
    (tmp_path / runtime.name).mkdir()
    made = tmp_path / runtime.name / environments.MADE
    made.write_text("onnxruntime==1.19.0\n")
    assert not environments.is_installed(runtime)
    made.write_text((environments.REQUIREMENTS / runtime.requirements).read_text())
    assert environments.is_installed(runtime)


def test_a_name_that_is_nearly_right_is_guessed():
    with pytest.raises(TargetError, match="did you mean onnxruntime"):
        catalogue.find("onnxruntim")


@pytest.mark.parametrize("name", catalogue.RUNTIMES)
def test_every_runtime_has_an_adapter_and_a_pinned_list(name):
    runtime = catalogue.RUNTIMES[name]
    assert runtime.name == name
    assert (environments.WORKERS / runtime.worker).exists()
    if runtime.requirements and runtime.language == "python":
        lines = (environments.REQUIREMENTS / runtime.requirements).read_text().splitlines()
        assert all("==" in line for line in lines if line and not line.startswith(("#", "--")))


@pytest.mark.skipif(
    environments.is_possible(catalogue.find("onnxruntime-cuda")), reason="there is a GPU"
)
def test_without_a_gpu_nothing_is_installed_for_one():
    cuda = catalogue.find("onnxruntime-cuda")
    with pytest.raises(NotRunnableError, match="needs an NVIDIA GPU"):
        environments.install(cuda)
    assert not environments.is_installed(cuda)


def test_only_what_is_for_cuda_sees_a_gpu():
    for runtime in catalogue.RUNTIMES.values():
        hidden = environments.variables(runtime).get("CUDA_VISIBLE_DEVICES") == ""
        assert hidden == (runtime.device == "cpu")
