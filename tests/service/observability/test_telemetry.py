"""Internal failures: logged, and reported to the caller by the request id only."""

import asyncio
import contextlib
import json
import logging
import os

import pytest
from fastapi.testclient import TestClient

from gatewave.service.app import create_app
from gatewave.service.observability import logs
from gatewave.service.observability.logs import MAX_WRITE, BufferedHandler


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
    line = json.loads(logs.JsonFormatter().format(record))
    assert line["message"] == "said so"
    assert line["level"] == "info"
    assert line["path"] == "/x"
    assert line["request_id"] is None


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.PlainFormatter()])
def test_an_exception_is_in_the_line(record, formatter):
    error = ValueError("why")
    record.exc_info = (ValueError, error, None)
    assert "ValueError: why" in formatter.format(record)


def test_a_plain_line_has_the_message_and_the_fields(record):
    assert logs.PlainFormatter().format(record).endswith("INFO    said so path=/x")


@pytest.mark.parametrize("said", ["%s", "%s\n"])
def test_a_plain_line_stays_one_whatever_a_caller_puts_into_it(record, said):
    record.path = said % "/\r\n2026 CRITICAL fake \x1b[2Jé\u202e"
    line = logs.PlainFormatter().format(record)
    assert line.isprintable()
    assert r"path=/\r\n2026 CRITICAL fake \x1b[2Jé\u202e" in line


def test_a_plain_exception_keeps_its_lines_and_nothing_else_that_moves_the_cursor(record):
    error = ValueError("\x1b[2J")
    record.exc_info = (ValueError, error, None)
    _, *lines = logs.PlainFormatter().format(record).split("\n")
    assert lines == [r"ValueError: \x1b[2J"]


@pytest.fixture(params=["a pipe without a reader", "closed"])
def unread(request):
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    if request.param == "closed":
        stream.close()
    yield BufferedHandler(stream)
    with contextlib.suppress(OSError):
        stream.close()


def test_where_nobody_reads_the_log_its_writers_do_not_hear_of_it(unread, record, capfd):
    async def write():
        for _ in range(3):
            unread.note({"path": "x" * MAX_WRITE})
        for _ in range(100):
            unread.emit(record)

    record.msg, record.args = "x" * 1000, ()
    asyncio.run(write())
    assert "BrokenPipe" not in capfd.readouterr().err
