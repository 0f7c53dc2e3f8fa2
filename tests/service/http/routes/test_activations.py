"""GET /activations and below, the health endpoints, and the documentation pages."""

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from gatewave.models import ACTIVATIONS


def test_every_record_is_listed(client):
    found = client.get("/activations").json()["activations"]
    assert {a["name"] for a in found} == set(ACTIVATIONS)
    for listed in found:
        assert client.get(listed["href"]).json()["name"] == listed["name"]


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_record_is_told_as_it_was_declared(client, activation):
    view = client.get(f"/activations/{activation.name}").json()
    for field in ("title", "summary", "source"):
        assert view[field] == getattr(activation, field)
    for field in ("inputs", "properties", "uses", "limits"):
        assert view[field] == list(getattr(activation, field))
    assert [f["choice"] for f in view["functions"]] == [
        dict(o.choice) for o in activation.operators
    ]
    for shown, operator in zip(view["functions"], activation.operators, strict=True):
        assert shown["op_type"] == operator.op_type
        assert shown["parameters"] == activation.defaults(operator)
        assert list(shown["derivatives"]) == [f"dy_d{name}" for name in activation.inputs]
        bound = operator.tolerances["float32"]
        assert shown["bounds"]["y"]["float32"] == {"ulp": bound.ulp, "atol": bound.atol}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_example_of_a_record_is_a_request_that_works(client, activation):
    example = client.get(f"/activations/{activation}").json()["example"]
    assert client.post("/activate", json=example).status_code == 200


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG\r\n")])
def test_there_is_a_plot_of_each_function(client, activation, operator, kind, start):
    response = client.get(
        f"/activations/{activation.name}/plot.{kind}", params=dict(operator.choice)
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == {"svg": "image/svg+xml", "png": "image/png"}[kind]
    assert response.content.startswith(start)
    assert response.headers["etag"]


def test_the_plots_of_two_gates_differ(client):
    plots = {
        client.get("/activations/swiglu/plot.svg", params=query).content
        for query in ({}, {"gate": "sigmoid"}, {"gate": "linear"})
    }
    assert len(plots) == 2


@pytest.mark.parametrize("form", ["function", "decomposed"])
@pytest.mark.parametrize("graph", ["value", "grad", "vjp"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_model_can_be_had_and_run(client, dtype, graph, form):
    query = {"dtype": dtype, "graph": graph, "form": form, "gate": "linear"}
    response = client.get("/activations/swiglu/model.onnx", params=query)
    assert response.status_code == 200
    assert "swiglu-linear" in response.headers["content-disposition"]
    model = onnx.load_from_string(response.content)
    onnx.checker.check_model(model, full_check=True)
    assert bool(model.functions) == (form == "function")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(response.content, options)
    session.run(None, {i.name: np.ones(3, dtype) for i in session.get_inputs()})


def test_a_model_that_was_not_exported_is_not_found(client, artifacts):
    path = artifacts / "sinc.value.float16.decomposed.onnx"
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        query = "dtype=float16&form=decomposed"
        assert client.get(f"/activations/sinc/model.onnx?{query}").status_code == 404
    finally:
        hidden.rename(path)


@pytest.mark.parametrize("form", ["", ".decomposed"])
@pytest.mark.parametrize(
    "change",
    [lambda raw: raw[:100], lambda raw: raw[:-1] + b"x"],
    ids=["truncated", "overwritten"],
)
def test_a_model_that_changed_since_the_start_is_not_given(client, artifacts, form, change):
    path = artifacts / f"sinc.value.float16{form}.onnx"
    whole = path.read_bytes()
    url = f"/activations/sinc/model.onnx?dtype=float16&form={form[1:] or 'function'}"
    assert client.get(url).content == whole
    path.write_bytes(change(whole))
    try:
        response = client.get(url)
        assert response.status_code == 404
        assert "has not changed since the service started" in response.json()["detail"]
    finally:
        path.write_bytes(whole)
    assert client.get(url).content == whole


def test_the_service_says_that_it_lives_and_is_ready(client):
    assert client.get("/livez").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["provider"] == "CPUExecutionProvider"
    assert set(ready["activations"]) == set(ACTIVATIONS)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_needs_no_internet(client, page):
    html = client.get(page).text
    links = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert links
    for link in links:
        assert not link.startswith(("http:", "https:", "//"))
        assert client.get(link).status_code == 200


def test_openapi_describes_the_bodies_that_the_routes_read(client):
    document = client.get("/openapi.json").json()
    content = document["paths"]["/activate"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/vnd.safetensors"}
    schemas = document["components"]["schemas"]
    references = set(re.findall(r"#/components/schemas/(\w+)", client.get("/openapi.json").text))
    assert references <= schemas.keys()
    (example,) = schemas["ActivateRequest"]["examples"]
    assert client.post("/activate", json=example).status_code == 200


def test_a_response_carries_the_request_id_that_came(client):
    assert (
        client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    )


def test_a_request_id_unfit_for_logs_is_replaced(client):
    found = client.get("/livez", headers={"x-request-id": 'a" b'}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", found)
