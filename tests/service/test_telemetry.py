"""A failure of ours is logged, and the caller learns its request id and nothing of the inside."""

import json
import logging

import pytest
from fastapi.testclient import TestClient

from service import telemetry
from service.app import create_app


@pytest.fixture
def failing_client(settings):
    app = create_app(settings)

    @app.get("/fail")
    async def fail():
        raise RuntimeError("the secret inside")

    return TestClient(app, raise_server_exceptions=False)


def test_a_failure_is_a_500_that_tells_the_request_id_only(failing_client, caplog):
    response = failing_client.get("/fail", headers={"x-request-id": "seen"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == "seen"
    assert "secret" not in response.text
    assert "the secret inside" in caplog.text


def test_the_service_goes_on_after_a_failure(failing_client):
    failing_client.get("/fail")
    assert failing_client.get("/livez").status_code == 200


@pytest.fixture
def record():
    record = logging.makeLogRecord({"msg": "said %s", "args": ("so",), "levelname": "INFO"})
    record.path = "/x"
    return record


def test_a_json_line_has_the_message_and_the_fields(record):
    line = json.loads(telemetry.JsonFormatter().format(record))
    assert line["message"] == "said so"
    assert line["level"] == "info"
    assert line["path"] == "/x"
    assert line["request_id"] is None


@pytest.mark.parametrize("formatter", [telemetry.JsonFormatter(), telemetry.PlainFormatter()])
def test_an_exception_is_in_the_line(record, formatter):
    error = ValueError("why")
    record.exc_info = (ValueError, error, None)
    assert "ValueError: why" in formatter.format(record)


def test_a_plain_line_has_the_message_and_the_fields(record):
    assert telemetry.PlainFormatter().format(record).endswith("INFO    said so path=/x")
