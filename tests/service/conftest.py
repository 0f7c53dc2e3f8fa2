import pytest
from fastapi.testclient import TestClient

from gatewave.service.app import create_app
from gatewave.service.settings import Settings


@pytest.fixture(scope="session")
def settings(artifacts):
    # One thread: ONNX Runtime's shared pool would forbid the other tests sessions of their own.
    return Settings(artifacts=artifacts, device="cpu", threads=1, max_elements=10_000)


@pytest.fixture(scope="session")
def app(settings):
    return create_app(settings)


@pytest.fixture(scope="session")
def client(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def activate(client):
    """Return a function that posts to /activate, expects status 200, and returns the document."""

    def post(activation, inputs, **rest):
        response = client.post(
            "/activate", json={"activation": activation, "inputs": inputs, **rest}
        )
        assert response.status_code == 200, response.text
        return response.json()

    return post
