"""Each error declares its answers in one place, and callers receive these answers."""

import importlib
import re
from http import HTTPStatus
from pathlib import Path

import grpc
import pytest
from fastapi.testclient import TestClient

import gatewave.service
from gatewave.service import errors
from gatewave.service.app import create_app
from gatewave.service.grpc.statuses import PUSHBACK, explained, metadata
from gatewave.service.system.sockets import PortUnavailable

SERVICE = Path(gatewave.service.__file__).parent
for file in SERVICE.rglob("[!_]*.py"):
    path = file.relative_to(SERVICE).with_suffix("")
    importlib.import_module(".".join(["gatewave.service", *path.parts]))

DECLARED = {"http_status", "oip_status", "grpc_code", "slug", "title"}
ERRORS = {error.__name__: error for error in errors.descendants()}
INTERNAL = {
    *("ServiceError", "SettingsInvalid", "DeviceUnavailable", "KernelsUnavailable"),
    *("ArtifactInvalid", "WorkersFailed", "PortUnavailable"),
}

every_error = pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS.keys())


def example(kind):
    if issubclass(kind, errors.RequestInvalid):
        return kind.at("inputs.x", "a number", "text")
    if issubclass(kind, errors.Overloaded):
        return kind("queue", "the queue is full", retry_after=3)
    return kind("the secret inside")


@pytest.fixture(scope="module")
def failing(settings):
    app = create_app(settings)

    @app.get("/fail/{name}")
    @app.get("/v2/fail/{name}")
    async def fail(name: str):
        raise example(ERRORS[name])

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_errors_of_other_modules_are_found():
    assert ERRORS["PortUnavailable"] is PortUnavailable
    assert len(ERRORS) == len(list(errors.descendants()))


def test_the_docstring_shows_the_tree():
    shown, parents = {}, []
    for indent, name in re.findall(r"^( *)[*x] (\w+) ", errors.__doc__, re.MULTILINE):
        parents[len(indent) // 2 :] = [name]
        shown[name] = parents[-2] if len(parents) > 1 else "Exception"
    assert shown == {name: error.__base__.__name__ for name, error in ERRORS.items()}


@every_error
def test_an_error_declares_all_of_its_answers_or_none(kind):
    assert DECLARED & vars(kind).keys() in (DECLARED, set())
    assert isinstance(kind.http_status, HTTPStatus)
    assert isinstance(kind.oip_status, HTTPStatus)
    assert grpc.StatusCode[kind.grpc_code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug)
    assert re.fullmatch(r"[A-Z][A-Za-z ]+[a-z]", kind.title)
    assert (kind.__name__ in INTERNAL) == (kind.grpc_code == "INTERNAL")


def test_each_declaration_has_its_own_problem_type():
    declaring = [error for error in ERRORS.values() if "slug" in vars(error)]
    assert len({error.slug for error in declaring}) == len(declaring)


@every_error
def test_http_answers_are_the_declared_ones(failing, kind):
    answer = failing.get(f"/fail/{kind.__name__}")
    assert answer.status_code == kind.http_status
    problem = answer.json()
    assert problem["type"] == f"urn:gatewave:problem:{kind.slug}"
    assert (problem["title"], problem["status"]) == (kind.title, kind.http_status)
    retry = getattr(example(kind), "retry_after", None)
    assert answer.headers.get("retry-after") == (None if retry is None else str(retry))
    assert "secret" not in answer.text or kind.__name__ not in INTERNAL


@every_error
def test_answers_of_the_inference_protocol_are_the_declared_ones(failing, kind):
    answer = failing.get(f"/v2/fail/{kind.__name__}")
    assert answer.status_code == kind.oip_status
    assert answer.json().keys() == {"error"}


@every_error
def test_grpc_answers_are_the_declared_ones(kind):
    error = example(kind)
    status, detail = explained(error)
    assert status.name == kind.grpc_code
    assert (detail == str(error)) == (kind.__name__ not in INTERNAL)


@pytest.mark.parametrize(
    ("error", "milliseconds"),
    [
        (errors.Overloaded("queue", "full", retry_after=3), "3000"),
        (errors.ClientLimited("client_requests", "too many", retry_after=2), "2000"),
        (errors.ModelNotReady("loading", is_loading=True), "1000"),
        (errors.ModelNotReady("it was refused"), None),
        (errors.DeadlineExceeded("late"), None),
        (errors.KeyMissing("missing"), None),
        (RuntimeError("ours"), None),
    ],
)
def test_grpc_clients_are_told_when_to_retry(error, milliseconds):
    assert dict(metadata(error)).get(PUSHBACK) == milliseconds
