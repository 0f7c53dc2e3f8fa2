"""Native kernels: used if available, reported correctly, and replaced only with a warning."""

import functools
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnxruntime as ort
import pytest
from fastapi.testclient import TestClient
from onnx import helper
from processes import beginning_with, run, serving

from gatewave.models import ACTIVATIONS
from gatewave.service.activations.artifact import load
from gatewave.service.app import create_app
from gatewave.service.codecs.datatypes import NUMPY
from gatewave.service.errors import KernelsUnavailable, ModelRefused, SettingsInvalid
from gatewave.service.onnx import engine as engine_module
from gatewave.service.onnx.engine import LIBRARIES, Engine
from gatewave.service.onnx.kernels import FUNCTION_BODY, STANDARD
from gatewave.service.onnx.nodes import operators
from gatewave.service.onnx.session import CPU, CUDA, SLICE, Session
from gatewave.service.settings import Settings

GRAPHS = ("value", "grad", "vjp")
POINTS = [-30.0, -6.5, -1.0, -0.25, -1e-4, 0.0, 0.3, 1.0, 2.0, 7.5]
ULP = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}


@pytest.fixture(scope="session")
def library():
    path = engine_module.FOLDER / LIBRARIES[CPU]
    if not path.is_file():
        pytest.skip(f"{path} was not built: `make native` builds it where there is a compiler")
    return path


@pytest.fixture(params=["native", "function"])
def mode(request):
    if request.param == "native":
        request.getfixturevalue("library")
    return request.param


@pytest.fixture(scope="module")
def engine():
    """Return a function from the mode of the kernels to an engine; a start tries the kernels."""
    return functools.cache(lambda mode: Engine.start("cpu", 1, kernels=mode))


@pytest.fixture(scope="module")
def clients(artifacts, request):
    """Return clients of a service with the kernels, and of one without, by mode."""
    request.getfixturevalue("library")

    def settings(mode):
        return Settings(artifacts=artifacts, device="cpu", threads=1, kernels=mode)

    return {m: TestClient(create_app(settings(m))) for m in ("native", "function")}


@pytest.fixture
def sinc(artifacts, tmp_path):
    """Return a folder with only the float32 value of sinc."""
    folder = tmp_path / "sinc"
    folder.mkdir()
    shutil.copy(artifacts / "sinc.value.float32.onnx", folder)
    return folder


@pytest.fixture(params=["missing", "corrupt", "idle"])
def unfit(request, tmp_path, monkeypatch):
    """Return a folder without a usable library, and a part of the expected message."""
    return _placed(request.param, tmp_path / "place", monkeypatch)


def _placed(kind, folder, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(engine_module, "FOLDER", folder)
    if kind == "missing":
        return folder, "make native"
    if kind == "idle":
        # It loads and says what it has, and the device that it is for is not the engine's.
        other = engine_module.FOLDER / LIBRARIES[CUDA]
        if not other.is_file():
            pytest.skip(f"{other} was not built: `make native` builds it where there is nvcc")
        shutil.copy(other, folder / LIBRARIES[CPU])
        return folder, "fails on one element"
    (folder / LIBRARIES[CPU]).write_bytes(b"not a library, but longer than a header" * 100)
    return folder, "invalid ELF header"


def ran(session):
    """Return the operators that ONNX Runtime ran, each with True if it came from a function."""
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event for event in events if event.get("cat") == "Node"]
    return {(node["args"]["op_name"], node["name"].startswith("_inlfunc_")) for node in nodes}


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_is_computed_by_what_it_says(
    artifacts, tmp_path, activation, operator, dtype, kind, mode, engine
):
    engine = engine(mode)
    path = artifacts / f"{activation.stem(operator)}.{kind}.{dtype}.onnx"
    _, graph = load(path, engine)
    model = path.read_bytes()
    ours, _ = operators(model)
    options = engine.options()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    engine.kernels.register(options, ours)
    session = ort.InferenceSession(model, options, providers=[CPU])
    tensors = {name: np.array(POINTS, NUMPY[dtype]) for name in graph.input_names}
    replace(graph, session=Session(session, None, dtype)).run(tensors, graph.output_names, {})
    names = ran(session)
    if mode == "native":
        assert graph.implementation == engine.kernels.implementation
        assert names == {(name, False) for name in ours}
    else:
        assert graph.implementation == FUNCTION_BODY
        assert names
        assert all(is_inlined for _, is_inlined in names)


def test_a_decomposed_graph_says_that_it_is_one(artifacts, mode, engine):
    path = artifacts / "sinc.value.float32.decomposed.onnx"
    _, graph = load(path, engine(mode))
    assert graph.implementation == STANDARD


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kernels_answer_as_the_function_bodies_do(clients, activation, dtype):
    function = clients["function"].get(f"/activations/{activation}").json()["functions"][0]
    inputs = dict(zip(("x", "a", "b"), (POINTS, POINTS, POINTS[::-1]), strict=True))
    names = ACTIVATIONS[activation].inputs
    request = {
        "activation": activation,
        "inputs": {name: inputs[name] for name in names},
        "outputs": [name for name in function["outputs"] if not name.startswith("grad_")],
        "dtype": dtype,
    }
    answers = [clients[m].post("/activate", json=request).json() for m in ("native", "function")]
    native, body = (answer["outputs"] for answer in answers)
    assert native.keys() == body.keys()
    for name, bounds in function["bounds"].items():
        bound, got, want = bounds[dtype], np.array(native[name]), np.array(body[name])
        scale = max(1, *map(abs, POINTS)) ** len(function["scale"])
        allowed = np.maximum(bound["ulp"] * ULP[dtype] * np.abs(want), bound["atol"] * scale)
        assert (np.abs(got - want) <= 2 * allowed + np.finfo(np.float16).smallest_normal / 2).all()


def test_settings_choose_and_the_service_says_what_they_chose(clients):
    best = clients["native"].get("/readyz").json()["kernels"]
    assert best.startswith("native ")
    for mode, said in (("native", best), ("function", FUNCTION_BODY)):
        client = clients[mode]
        assert client.get("/readyz").json()["kernels"] == said
        for listed in client.get("/activations").json()["activations"]:
            assert listed["implementations"] == [said]
            for function in client.get(listed["href"]).json()["functions"]:
                dtypes = dict.fromkeys(function["dtypes"], said)
                assert function["implementations"] == dict.fromkeys(GRAPHS, dtypes)
        line = f'gatewave_kernels_info{{implementation="{said}",kernels="{mode}"}} 1.0'
        assert line in client.get("/metrics").text


def test_automatically_the_kernels_are_used_where_they_are(sinc, library):
    engine = Engine.start("cpu", 1)
    assert engine.kernels.path == library
    assert load(*sinc.iterdir(), engine)[1].implementation.startswith("native ")


def test_without_fit_kernels_the_bodies_serve_and_the_log_says_why(sinc, unfit, caplog):
    folder, why = unfit
    with caplog.at_level(logging.INFO, "gatewave.service.onnx.kernels"):
        client = TestClient(create_app(Settings(artifacts=sinc, device="cpu", threads=1)))
    assert client.get("/readyz").json()["kernels"] == FUNCTION_BODY
    answer = client.post("/activate", json={"activation": "sinc", "inputs": {"x": [0.0, 0.5]}})
    assert answer.json()["outputs"]["y"] == pytest.approx([1, 2 / np.pi])
    (line,) = [
        record for record in caplog.records if record.name == "gatewave.service.onnx.kernels"
    ]
    assert why in line.reason
    assert str(folder) in line.reason
    is_there = any(folder.iterdir())
    assert line.levelno == (logging.WARNING if is_there else logging.INFO)


def test_kernels_that_are_demanded_and_unfit_are_refused(sinc, unfit):
    _, why = unfit
    with pytest.raises(KernelsUnavailable, match=f"GATEWAVE_KERNELS=native: .*{why}"):
        create_app(Settings(artifacts=sinc, device="cpu", threads=1, kernels="native"))


@pytest.mark.parametrize("kind", ["missing", "corrupt"])
def test_a_service_whose_kernels_are_demanded_and_unfit_ends_with_1(
    sinc, tmp_path, kind, monkeypatch
):
    folder, why = _placed(kind, tmp_path / "place", monkeypatch)
    environment = {"GATEWAVE_KERNELS": "native", **_without_kernels(folder, tmp_path)}
    ended = run("serve", "--port", 0, "--artifacts", sinc, **environment)
    assert ended.returncode == 1
    assert why in " ".join(ended.stderr.split())


def _without_kernels(kernels, folder):
    """Return the environment of processes that look for kernels in the folder ``kernels``."""
    code = (
        "import pathlib, gatewave.service.onnx.engine as e\n"
        f"e.FOLDER = pathlib.Path({str(kernels)!r})"
    )
    return beginning_with(code, folder)


@pytest.mark.usefixtures("unfit")
def test_functions_alone_are_computed_without_looking():
    engine = Engine.start("cpu", 1, kernels="function")
    assert engine.kernels.absence == "GATEWAVE_KERNELS=function"


def test_an_instruction_set_without_kernels_is_refused(sinc, unfit):
    settings = Settings(artifacts=sinc, device="cpu", threads=1, kernels_instructions="avx2")
    _, why = unfit
    both = "GATEWAVE_KERNELS_INSTRUCTIONS=avx2 .* GATEWAVE_KERNELS=auto .*"
    with pytest.raises(SettingsInvalid, match=f"{both}{why}|must be one of cuda, not 'avx2'"):
        create_app(settings)


def test_an_instruction_set_for_function_bodies_is_refused():
    both = "GATEWAVE_KERNELS_INSTRUCTIONS=avx2 .* GATEWAVE_KERNELS=function"
    with pytest.raises(SettingsInvalid, match=both):
        Engine.start("cpu", 1, kernels="function", instructions="avx2")


@pytest.mark.usefixtures("library")
def test_every_instruction_set_that_the_processor_has_can_be_forced(sinc):
    best = Engine.start("cpu", 1, kernels="native").kernels
    supported = _supported()
    assert best.instructions in supported
    assert not best.forced
    for name in supported:
        engine = Engine.start("cpu", 1, kernels="native", instructions=name)
        _, graph = load(*sinc.iterdir(), engine)
        assert graph.implementation == f"native {name}"
        assert engine.kernels.forced == name


def _supported():
    engine = Engine.start("cpu", 1, kernels="function")
    with pytest.raises(SettingsInvalid, match="one of") as refused:
        engine.using("auto", "none")
    return str(refused.value).partition("one of ")[2].partition(", not")[0].split(", ")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("demanded", ["auto", "native"])
def test_an_instruction_set_that_is_not_there_is_refused(sinc, demanded):
    settings = Settings(artifacts=sinc, kernels=demanded, kernels_instructions="sse9", threads=1)
    with pytest.raises(SettingsInvalid, match=r"GATEWAVE_KERNELS_INSTRUCTIONS .* not 'sse9'"):
        create_app(settings)


def _renamed(path, name):
    """Rename the node of the artifact to an operator that the library lacks."""
    model = onnx.load(path)
    model.graph.node[0].op_type = model.functions[0].name = name
    onnx.save(model, path)


@pytest.mark.usefixtures("library")
def test_an_operator_that_has_no_kernel_is_computed_by_its_body(sinc):
    (path,) = sinc.iterdir()
    _renamed(path, "Sync")
    assert load(path, Engine.start("cpu", 1))[1].implementation == FUNCTION_BODY


@pytest.mark.usefixtures("library")
def test_an_operator_that_has_no_kernel_is_refused_where_kernels_are_demanded(sinc):
    (path,) = sinc.iterdir()
    _renamed(path, "Sync")
    with pytest.raises(KernelsUnavailable, match="has no Sync"):
        load(path, Engine.start("cpu", 1, kernels="native"))


@pytest.mark.usefixtures("library")
def test_a_native_graph_writes_whole_results_over_its_inputs(artifacts):
    _, graph = load(artifacts / "swiglu-linear.grad.float32.onnx", Engine.start("cpu", 1))
    chance = np.random.default_rng(0)
    inputs = {n: chance.normal(0, 4, 3 * SLICE + 5).astype("f4") for n in graph.input_names}
    apart = graph.run(inputs, graph.output_names, {})
    over = graph.run(inputs, graph.output_names, {}, reuse_inputs=True)
    for given, name in zip(inputs, graph.output_names, strict=False):
        assert over[name] is inputs[given]
    for name in graph.output_names:
        assert over[name].tobytes() == apart[name].tobytes()


@pytest.mark.usefixtures("library")
def test_one_node_that_is_not_ours_gets_its_buffers(artifacts):
    path = artifacts / "bilinear.value.float32.decomposed.onnx"
    assert operators(path.read_bytes()) == (frozenset(), 1)
    _, graph = load(path, Engine.start("cpu", 1))
    inputs = {name: np.full(SLICE, 2, np.float32) for name in graph.input_names}
    (y,) = graph.run(inputs, ["y"], {}, reuse_inputs=True).values()
    assert (y == 4).all()
    assert all((given == 2).all() for given in inputs.values())


@pytest.mark.usefixtures("library")
def test_a_graph_that_rested_is_opened_with_its_kernels_again(artifacts):
    _, graph = load(artifacts / "sigmoid.value.float32.onnx", Engine.start("cpu", 1))
    far = np.array([-50], np.float32)  # where the function's body gives 0
    before = graph.run({"x": far}, ["y"], {})["y"]
    assert before == pytest.approx(np.exp(far), rel=1e-5, abs=0)
    graph.session.unload()
    assert graph.run({"x": far}, ["y"], {})["y"].tobytes() == before.tobytes()


def _network(root, *, name="Sinc", with_body):
    """Put an exported network with one of our nodes into the repository ``root``."""
    node = helper.make_node(name, ["x"], ["between"], domain="ai.gatewave")
    square = helper.make_node("Mul", ["between", "between"], ["y"])
    body = helper.make_function(
        "ai.gatewave",
        name,
        ["x"],
        ["y"],
        [helper.make_node("Neg", ["x"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    model = onnx_models.model(
        [node, square],
        [onnx_models.port("x")],
        [onnx_models.port("y")],
        functions=[body] if with_body else [],
        opsets=(("", 17), ("ai.gatewave", 1)),
    )
    return onnx_models.put(root, "network", "1", model).parent


@pytest.mark.usefixtures("library")
def test_a_network_of_the_repository_is_computed_with_the_kernels(tmp_path):
    folder = _network(tmp_path, with_body=True)
    model = onnx_models.load(folder / "model.onnx", Engine.start("cpu", 1))
    x = np.full((1, 2), 0.5, np.float32)
    (y,) = model.run({"x": x}, ["y"], {}).values()
    assert y == pytest.approx(np.full((1, 2), (2 / np.pi) ** 2))


def test_a_network_with_neither_body_nor_kernel_is_refused_by_the_nodes_name(tmp_path, mode):
    folder = _network(tmp_path, name="Unknown", with_body=False)
    engine = Engine.start("cpu", 1, kernels=mode)
    with pytest.raises(ModelRefused, match=r"ai\.gatewave:Unknown"):
        onnx_models.load(folder / "model.onnx", engine)


@pytest.mark.usefixtures("library")
def test_a_network_is_tried_with_the_kernels_too(artifacts, tmp_path):
    _network(tmp_path, with_body=False)
    environment = {"GATEWAVE_REPOSITORY": str(tmp_path), "GATEWAVE_THREADS": "1"}
    with serving(artifacts, **environment) as server:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.0]}
        answer = server.post("/v2/models/network/infer", {"inputs": [tensor]})
    assert answer["outputs"][0]["data"] == pytest.approx([(2 / np.pi) ** 2, 0], rel=1e-6, abs=1e-12)


def test_doctor_says_what_the_kernels_are(artifacts, library):
    finding = _doctors(run("doctor", "--json", "--artifacts", artifacts))
    assert finding["verdict"] == "ok"
    for word in (str(library), "native", "SincVJP"):
        assert word in finding["detail"]


@pytest.mark.parametrize(
    ("kind", "demanded", "verdict"),
    [
        ("missing", "auto", "note"),
        ("missing", "native", "wrong"),
        ("corrupt", "auto", "wrong"),
        ("corrupt", "function", "note"),
    ],
)
def test_doctor_says_why_there_are_none(sinc, tmp_path, monkeypatch, kind, demanded, verdict):
    folder, why = _placed(kind, tmp_path / "place", monkeypatch)
    environment = {"GATEWAVE_KERNELS": demanded, "GATEWAVE_DEVICE": "cpu"}
    environment |= _without_kernels(folder, tmp_path)
    ended = run("doctor", "--json", "--artifacts", sinc, **environment)
    finding = _doctors(ended)
    assert finding["verdict"] == verdict
    assert (why if demanded != "function" else "GATEWAVE_KERNELS") in finding["detail"]
    assert ended.returncode == (verdict == "wrong")


def _doctors(ended):
    (finding,) = [f for f in json.loads(ended.stdout) if f["subject"] == "kernels"]
    return finding
