"""Repository behind a real server."""

import json
import math
import os
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import (
    branching,
    centred,
    conditional,
    endless,
    external,
    helper,
    model,
    port,
    put,
    scaled,
)
from processes import run, serving

from gatewave.service.security.keys import new_key

X = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}

UNLOAD = {"parameters": {"unload_dependents": False}}


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory):
    """Repository of the server that tests share; each test has models of other names."""
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def call(shared_root, artifacts):
    """Return a function that calls the shared server as an admin.

    It returns the status and the document of the response.
    """
    key, entry = new_key("admin")
    settings = {"GATEWAVE_REPOSITORY": str(shared_root), "GATEWAVE_KEYS": entry}
    with serving(artifacts, GATEWAVE_REPOSITORY_MODE="explicit", **settings) as server:

        def post(path, document=None, method="POST"):
            body = json.dumps(document).encode() if document is not None else b""
            headers = {"authorization": f"Bearer {key}"}
            request = urllib.request.Request(  # noqa: S310
                server.url + path, body, headers, method=method
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                    return response.status, json.loads(response.read() or b"null")
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        yield post


def index(call):
    status, models = call("/v2/repository/index")
    assert status == 200
    return {(m["name"], m["version"]): (m["state"], m["reason"]) for m in models}


def test_models_are_loaded_and_unloaded_over_http(shared_root, call):
    assert ("m", "1") not in index(call)
    put(shared_root, "m", "1", scaled(2))
    assert index(call)["m", ""] == ("UNAVAILABLE", "the model is not loaded")
    assert call("/v2/models/m/infer", X)[0] == 503
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AA=="}):
        status, problem = call("/v2/repository/models/m/load", {"parameters": parameters})
        assert (status, "from the repository" in problem["error"]) == (400, True)
    assert call("/v2/repository/models/m/load") == (200, None)
    status, answer = call("/v2/models/m/infer", X)
    assert status == 200
    assert answer["outputs"][0]["data"] == [2.0, 4.0]
    put(shared_root, "m", "1", external("../../../secret"))
    status, problem = call("/v2/repository/models/m/load")
    assert status == 400
    assert "is out of the version's folder" in problem["error"]
    state, reason = index(call)["m", "1"]
    assert state == "READY"
    assert "out of the version's folder" in reason
    assert call("/v2/models/m/infer", X)[1]["outputs"][0]["data"] == [2.0, 4.0]
    assert call("/v2/repository/models/m/unload", UNLOAD) == (200, None)
    assert call("/v2/repository/models/m/unload", UNLOAD) == (200, None), "it is idempotent"
    for path in ("/v2/models/m", "/v2/models/m/versions/1"):
        assert call(f"{path}/infer", X)[0] == 503
    assert call("/v2/repository/models/nobody/load")[0] == 404
    assert call("/v2/repository/models/sinc/unload")[0] == 404
    assert index(call)["sinc", "1"] == ("READY", "")


def test_the_index_mentions_an_ignored_configuration(shared_root, call):
    note = "config.pbtxt is ignored: the settings of a model are in config.yaml"
    put(shared_root, "noted", "1", scaled(2), "batching: off")
    put(shared_root, "bad", "1", b"junk")
    for name in ("noted", "bad"):
        (shared_root / name / "config.pbtxt").write_text("max_batch_size: 8")
        call(f"/v2/repository/models/{name}/load")
    found = index(call)
    assert found["noted", "1"][0] == "READY"
    assert found["noted", "1"][1].endswith(note)
    assert found["bad", "1"][0] == "UNAVAILABLE"
    assert "not an ONNX file" in found["bad", "1"][1]
    assert found["bad", "1"][1].endswith(f"; {note}")
    (shared_root / "noted" / "config.pbtxt").unlink()
    call("/v2/repository/models/noted/load")
    assert note not in index(call)["noted", "1"][1]


def test_external_data_truncated_in_place_changes_no_answer(shared_root, call):
    path = put(shared_root, "truncated", "1", external("weights", offset=1 << 16))
    weights = path.with_name("weights")
    weights.write_bytes(bytes(1 << 16) + np.float32([2, 3]).tobytes())
    assert call("/v2/repository/models/truncated/load") == (200, None)
    expected = call("/v2/models/truncated/infer", X)
    assert expected[1]["outputs"][0]["data"] == [2.0, 6.0]
    for size in (1 << 12, 0):
        os.truncate(weights, size)
        os.truncate(path, size and 8)
        assert call("/v2/models/truncated/infer", X) == expected
    status, problem = call("/v2/repository/models/truncated/load")
    assert (status, "model.onnx: the file is empty" in problem["error"]) == (400, True)
    assert call("/v2/models/truncated/infer", X) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GATEWAVE_REPOSITORY": "/nowhere"}, "expected a folder, got /nowhere"),
        (
            {"GATEWAVE_REPOSITORY": "/", "GATEWAVE_REPOSITORY_MODE": "explicit"},
            "needs an admin's key",
        ),
    ],
)
def test_an_unusable_repository_is_reported_at_the_start(artifacts, settings, said):
    ended = run("serve", "--port", "0", "--artifacts", artifacts, **settings)
    assert ended.returncode == 2
    assert said in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_the_reason_for_batching_is_shown_everywhere(shared_root, call):
    put(shared_root, "shown", "1", scaled(2), "batching: {max_size: 8}")
    put(shared_root, "meets", "1", conditional())
    put(shared_root, "off", "1", scaled(2), "batching: off")
    reasons = {
        "shown": "batched: the graph shows that rows are independent",
        "meets": "not batched: node most (ReduceMax) joins the rows",
        "off": "not batched: config.yaml has batching: off",
    }
    for name, reason in reasons.items():
        assert call(f"/v2/repository/models/{name}/load") == (200, None)
        assert index(call)[name, "1"] == ("READY", reason)
        assert call(f"/v2/models/{name}", method="GET")[1]["parameters"] == {"batching": reason}
        config = call(f"/v2/models/{name}/config", method="GET")[1]
        assert config["parameters"] == {"batching": {"string_value": reason}}
        assert ("dynamic_batching" in config) == (name == "shown")
    assert "parameters" not in call("/v2/models/sinc", method="GET")[1]


def test_answers_under_load_equal_single_answers(shared_root, call):
    models = {"branching": branching, "centred": centred, "conditional": conditional}
    for name, make in models.items():
        put(shared_root, name, "1", make())
        assert call(f"/v2/repository/models/{name}/load") == (200, None)
    questions = [
        (f"/v2/models/{name}/infer", {"inputs": [X["inputs"][0] | {"data": data}]})
        for name in models
        for data in ([0.5, 1], [300, 7], [-0.1, -0.2], [-1e4, 3])
    ]

    def asked(question):
        status, answer = call(*question)
        assert status == 200
        return answer["outputs"][0]["data"]

    alone = [asked(question) for question in questions]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(asked, questions * 20)) == alone * 20


def test_a_crashing_request_fails_alone(root, artifacts):
    kind = TensorProto.INT32
    node = helper.make_node("Div", ["a", "b"], ["y"])
    ports = [port(name, ("n",), kind) for name in "aby"]
    put(root, "div", "1", model([node], ports[:2], ports[2:]))

    def asking(a, b):
        tensor = {"shape": [1], "datatype": "INT32"}
        inputs = [{"name": "a", "data": [a], **tensor}, {"name": "b", "data": [b], **tensor}]
        return server.post("/v2/models/div/infer", {"inputs": inputs})["outputs"][0]["data"]

    with serving(artifacts, GATEWAVE_REPOSITORY=str(root), GATEWAVE_GRACE_SECONDS="0") as server:
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as refused:
                asking(-(2**31), -1)
            with refused.value as response:
                assert response.code == 400
                assert json.load(response) == {"error": "the model's process was ended by SIGFPE"}
            assert asking(7, 2) == [3]
        assert server.stop() == 0


def test_endless_runs_end_at_their_deadline(root, artifacts):
    """A run ends between two nodes, or with its process, or never; then its thread is replaced."""
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    ports = [port("x", (1, 1, "h", "w")), port("w", (1, 1, "k", "l"))]
    convolving = model([node], ports, [port("y", (1, 1, "o", "p"))])
    for name, made in {"loop": endless("others"), "conv": convolving}.items():
        for isolation in ("process", "none"):
            put(root, f"{name}-{isolation}", "1", made, f"isolation: {isolation}")
    put(root, "good", "1", scaled(2))

    def tensor(name, *shape):
        data = [1.0] * math.prod(shape)
        return {"name": name, "datatype": "FP32", "shape": shape, "data": data}

    asked = {
        "loop": [tensor("x", 2, 2)],
        "conv": [tensor("x", 1, 1, 4, 4), tensor("w", 1, 1, 0, 0)],
    }
    settings = {"GATEWAVE_REPOSITORY": str(root), "GATEWAVE_GRACE_SECONDS": "0"}
    with serving(artifacts, GATEWAVE_LANES="1", **settings) as server:
        for name, inputs in asked.items():
            for isolation in ("process", "none"):
                path = f"/v2/models/{name}-{isolation}/infer"
                with pytest.raises(urllib.error.HTTPError) as late:
                    server.post(path, {"parameters": {"timeout": 300_000}, "inputs": inputs})
                with late.value as response:
                    assert response.code == 503
                    assert "its run was ended" in json.load(response)["error"]
                good = server.post("/v2/models/good/infer", {"inputs": [tensor("x", 1, 2)]})
                assert good["outputs"][0]["data"] == [2.0, 2.0]
        assert server.stop() == 0
