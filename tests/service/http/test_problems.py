"""Problem documents: errors are named by field, without 5xx, and the service continues."""

import pytest

from gatewave.service import errors
from gatewave.service.http import problems

GLU = {"activation": "glu", "inputs": {"a": [1, 2], "b": [3, 4]}}


def changed(**fields):
    return {**GLU, **fields}


WRONG = {
    "no-activation": ({"inputs": {}}, 422, "activation"),
    "unknown-activation": (changed(activation="gelu"), 404, "activation"),
    "activation-a-number": (changed(activation=3), 422, "activation"),
    "activation-too-long": (changed(activation="x" * 100), 422, "activation"),
    "no-inputs": ({"activation": "glu"}, 422, "inputs"),
    "inputs-a-list": (changed(inputs=[1, 2]), 422, "inputs"),
    "missing-input": (changed(inputs={"a": [1]}), 422, "inputs.b"),
    "wrong-name": (changed(inputs={"a": [1], "b": [1], "c": [1]}), 422, "inputs.c"),
    "ragged": (changed(inputs={"a": [[1, 2], [3]], "b": [1]}), 422, "inputs.a[1]"),
    "ragged-depth": (changed(inputs={"a": [[1], 2], "b": [1]}), 422, "inputs.a[1]"),
    "ragged-depth-inside": (changed(inputs={"a": [1, [2]], "b": [1]}), 422, "inputs.a[1]"),
    "unequal-shapes": (changed(inputs={"a": [1, 2], "b": [1]}), 422, "inputs.b"),
    "same-count-other-shape": (changed(inputs={"a": [[1, 2]], "b": [1, 2]}), 422, "inputs.b"),
    "a-string": (changed(inputs={"a": "1", "b": 1}), 422, "inputs.a"),
    "strings": (changed(inputs={"a": [1, "2"], "b": [1, 2]}), 422, "inputs.a[1]"),
    "other-word": (changed(inputs={"a": [["nan"]], "b": [1, 2]}), 422, "inputs.a[0][0]"),
    "a-boolean": (changed(inputs={"a": [1, True], "b": [1, 2]}), 422, "inputs.a[1]"),
    "null": (changed(inputs={"a": [None, 1], "b": [1, 2]}), 422, "inputs.a[0]"),
    "an-object": (changed(inputs={"a": [{}], "b": [1, 2]}), 422, "inputs.a[0]"),
    "out-of-range": (changed(inputs={"a": [1, 1e39], "b": [1, 2]}), 422, "inputs.a[1]"),
    "out-of-half": (changed(inputs={"a": 1, "b": 65520}, dtype="float16"), 422, "inputs.b"),
    "too-many": (changed(inputs={"a": [0] * 6000, "b": [0] * 6000}), 422, "inputs"),
    "unknown-dtype": (changed(dtype="int8"), 422, "dtype"),
    "dtype-null": (changed(dtype=None), 422, "dtype"),
    "no-outputs": (changed(outputs=[]), 422, "outputs"),
    "unknown-output": (changed(outputs=["y", "dy_dx"]), 422, "outputs[1]"),
    "mixed-outputs": (changed(outputs=["y", "grad_a"]), 422, "outputs"),
    "outputs-a-word": (changed(outputs="y"), 422, "outputs"),
    "outputs-twice": (changed(outputs=["y", "y"]), 422, "outputs[1]"),
    "empty-lists": (changed(inputs={"a": [[]] * 10_001, "b": 1}), 422, "inputs.a"),
    "no-grad-y": (changed(outputs=["grad_a"]), 422, "inputs.grad_y"),
    "unknown-param": (changed(params={"gate": "linear"}), 422, "params.gate"),
    "param-of-other-gate": (
        {"activation": "swiglu", "inputs": {"a": 1, "b": 2}, "params": {"alpha": 2}},
        422,
        "params.alpha",
    ),
    "unknown-choice": (
        {"activation": "swiglu", "inputs": {"a": 1, "b": 2}, "params": {"gate": "relu"}},
        422,
        "params.gate",
    ),
    "choice-unhashable": (
        {"activation": "swiglu", "inputs": {"a": 1, "b": 2}, "params": {"gate": ["linear"]}},
        422,
        "params.gate",
    ),
    "param-a-word": (
        {"activation": "swish", "inputs": {"x": 1}, "params": {"alpha": "2"}},
        422,
        "params.alpha",
    ),
    "param-true": (
        {"activation": "swish", "inputs": {"x": 1}, "params": {"alpha": True}},
        422,
        "params.alpha",
    ),
    "param-out-of-range": (
        {"activation": "swish", "inputs": {"x": 1}, "params": {"alpha": 1e300}},
        422,
        "params.alpha",
    ),
    "param-huge-integer": (
        {
            "activation": "swish",
            "inputs": {"x": 1},
            "params": {"alpha": 10**30},
            "dtype": "float16",
        },
        200,
        None,
    ),
    "unknown-field": (changed(output=["y"]), 422, "output"),
    "a-list": ([], 422, "body"),
    "a-number": (3, 422, "body"),
}


@pytest.mark.parametrize(("document", "status", "field"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_named(client, document, status, field):
    response = client.post("/activate", json=document)
    assert response.status_code == status, response.text
    if field is not None:
        problem = response.json()
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["errors"][0]["field"] == field
        assert problem["errors"][0].keys() == {"field", "expected", "got"}
        assert problem["type"].startswith("urn:gatewave:problem:")
        assert {"title", "detail"} <= problem.keys()


DEEP = b'{"activation": "sinc", "inputs": {"x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}}"
NESTED = b'{"activation": "sinc", "inputs": {"x": ' + b"[" * 500 + b"1" + b"]" * 500 + b"}}"
JSON = "application/json"


@pytest.mark.parametrize(
    ("content", "headers", "status", "field"),
    [
        pytest.param(b"", {}, 400, "body", id="empty"),
        pytest.param(b'{"activation": ', {}, 400, "body", id="broken-json"),
        pytest.param(b"\xff\xfe", {}, 400, "body", id="not-utf-8"),
        pytest.param(b'{"activation": NaN}', {}, 400, "body", id="bare-nan"),
        pytest.param(b'{"inputs": {"x": 1e999}}', {}, 400, "body", id="number-beyond-float64"),
        pytest.param(DEEP, {}, 400, "body", id="nesting-10000-deep"),
        pytest.param(NESTED, {}, 422, "inputs.x", id="nesting-500-deep"),
        pytest.param(b"{}", {"content-type": "text/plain"}, 415, "Content-Type", id="text"),
        pytest.param(b"{}", {"content-encoding": "gzip"}, 415, "Content-Encoding", id="gzip"),
        pytest.param(b"{}", {"accept": "text/html"}, 406, "Accept", id="html-wanted"),
        pytest.param(b"{}", {"accept": "*/*;q=0"}, 406, "Accept", id="nothing-wanted"),
        pytest.param(b"{}", {"accept": f"{JSON};q=x"}, 406, "Accept", id="quality-no-number"),
        pytest.param(b" " * (2**23 + 1), {}, 413, "body", id="too-long"),
        pytest.param(b"{}", {"accept": f"{JSON};q=nan"}, 406, "Accept", id="quality-nan"),
    ],
)
def test_a_wrong_body_or_header_is_named(client, content, headers, status, field):
    response = client.post("/activate", content=content, headers={"content-type": JSON, **headers})
    assert response.status_code == status, response.text
    assert response.json()["errors"][0]["field"] == field


def test_a_body_that_does_not_say_its_length_is_stopped_at_the_limit(client):
    response = client.post("/activate", content=(b" " * 2**20 for _ in range(9)))
    assert response.status_code == 413


def nested(depth):
    return b"[" * depth + b"1" + b"]" * depth


@pytest.mark.parametrize("depth", [100, 253, 254, 255, 300, 1000, 1019, 1024])
@pytest.mark.parametrize(
    "body",
    [
        b"%s",
        b'{"activation": %s}',
        b'{"activation": "swish", "inputs": {"x": 1}, "params": {"alpha": %s}}',
        b'{"activation": "swish", "inputs": {"x": 1}, "params": {"beta": %s}}',
        b'{"activation": "sinc", "inputs": {"x": [1, %s]}}',
        b'{"activation": "sinc", "inputs": {"x": [[1], %s]}}',
        b'{"activation": "sinc", "inputs": {"x": 1}, "z": %s}',
        b'{"activation": "sinc", "inputs": {"x": 1}, "outputs": %s}',
        b'{"activation": "sinc", "inputs": {"x": 1}, "dtype": %s}',
    ],
)
def test_nesting_is_a_problem_at_any_depth_in_any_field(client, body, depth):
    content = body % nested(depth)
    response = client.post("/activate", content=content, headers={"content-type": JSON})
    assert response.status_code in {400, 422}, response.text
    assert len(response.content) < 2000
    batch = client.post("/activate/batch", content=b'{"requests": [%s]}' % content)
    assert batch.status_code in {200, 400}, batch.text


@pytest.mark.parametrize("where", ["inputs", "params", None])
def test_a_name_with_a_nul_is_like_any_other_unknown_name(client, where):
    document = {"activation": "sinc", "inputs": {"x": [1.0]}, "params": {}}
    (document[where] if where else document)["x\0"] = [2.0]
    response = client.post("/activate", json=document)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].endswith("x\0")


def test_many_wrong_fields_are_counted_and_not_all_told(client):
    response = client.post("/activate", json=changed(**{f"f{i}": 0 for i in range(200)}))
    assert response.status_code == 422
    assert len(response.json()["errors"]) == 16
    assert "184 more" in response.json()["detail"]
    assert len(response.content) < 10_000


def test_a_batch_that_is_too_long_is_refused(client):
    response = client.post("/activate/batch", json={"requests": [GLU] * 257})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "requests"


def test_a_batch_gives_json_only(client):
    response = client.post(
        "/activate/batch", json={"requests": []}, headers={"accept": "text/html"}
    )
    assert response.status_code == 406


def test_a_batch_takes_json_only(client):
    headers = {"content-type": "application/vnd.safetensors"}
    assert client.post("/activate/batch", content=b"", headers=headers).status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/activate", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/activations/gelu", 404),
        ("GET", "/activations/gelu/plot.svg", 404),
        ("GET", "/activations/sinc/plot.gif", 422),
        ("GET", "/activations/sinc/plot.svg?gate=linear", 422),
        ("GET", "/activations/swiglu/plot.svg?gate=x", 422),
        ("GET", "/activations/swiglu/plot.svg?alpha=2", 422),
        ("GET", "/activations/sinc/model.onnx?dtype=int8", 422),
        ("GET", "/activations/sinc/model.onnx?form=none", 422),
        ("GET", "/activations/..%2f..%2fetc%2fpasswd/plot.svg", 404),
        ("DELETE", "/activations", 405),
        ("POST", "/activate/", 404),
    ],
)
def test_every_other_error_is_a_problem_document_too(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["type"].startswith("urn:gatewave:problem:")


@pytest.mark.parametrize("path", ["/livez", "/activations/sinc", "/activations/sinc/plot.svg"])
def test_head_is_get_without_the_body(client, path):
    assert client.head(path).status_code == 200


def test_a_wrong_method_says_which_are_right(client):
    assert client.get("/activate").headers["allow"] == "POST"


@pytest.mark.parametrize(
    "error",
    [
        errors.Overloaded("queue", "full", retry_after=3),
        errors.DeadlineExceeded("late"),
        errors.ModelNotReady("not now"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_who_may_come_again_is_told_when(error):
    response = problems.answer("/activate", error)
    assert response.status_code == 503
    assert response.headers["retry-after"] == str(getattr(error, "retry_after", 1))


def test_the_service_goes_on(client):
    assert client.post("/activate", json=GLU).status_code == 200
