"""Drain: a service reports it, answers the requests it has received, and ends in time."""

import contextlib
import http.client
import os
import signal
import socket
import time
import urllib.parse

import pytest
from processes import serving

ASKED = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"activation":"sinc","inputs":{"x":[0.5]}}'
LONG = "30"

ONE_OR_TWO = pytest.mark.parametrize("workers", ["1", "2"])


@contextlib.contextmanager
def connected(server):
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        yield connection


def is_accepting(server):
    """Return True if the server accepts connections; a closing one does not respond at first."""
    address = urllib.parse.urlsplit(server.url)
    try:
        socket.create_connection((address.hostname, address.port), 0.5).close()
    except TimeoutError:
        return False
    return True


def answer(connection, method="GET"):
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    response.body = response.read()
    return response


def started(connection):
    """Begin a request without its last byte; the server has read the rest."""
    head = b"POST /activate HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
    connection.sendall(head + b"%d\r\n\r\n" % len(BODY))
    assert connection.recv(1000).startswith(b"HTTP/1.1 100")
    connection.sendall(BODY[:-1])


def settings(workers, *, grace="0", drain=LONG):
    return {
        "GATEWAVE_WORKERS": workers,
        "GATEWAVE_GRACE_SECONDS": grace,
        "GATEWAVE_DRAIN_SECONDS": drain,
        "GATEWAVE_THREADS": "1",
    }


@ONE_OR_TWO
def test_draining_service_is_not_ready_and_answers(artifacts, workers):
    with serving(artifacts, **settings(workers, grace=LONG)) as server:
        with connected(server) as kept:
            kept.sendall(ASKED)
            assert answer(kept).getheader("connection") is None
            server.process.send_signal(signal.SIGTERM)
            server.await_log("draining")
            if workers == "2":
                server.await_log("draining")
            kept.sendall(ASKED)
            unready = answer(kept)
            assert unready.status == 503
            assert unready.getheader("connection") == "close"
            assert kept.recv(1) == b""
        for path, status in (("/readyz", 503), ("/v2/health/ready", 503), ("/livez", 200)):
            with connected(server) as fresh:
                fresh.sendall(ASKED.replace(b"/readyz", path.encode()))
                assert answer(fresh).status == status
        result = server.post("/activate", {"activation": "sinc", "inputs": {"x": [0]}})
        assert result["outputs"]["y"] == [1]


@ONE_OR_TWO
def test_requests_under_way_are_answered_and_idle_connections_closed(artifacts, workers):
    with (
        serving(artifacts, **settings(workers)) as server,
        connected(server) as idle,
        connected(server) as busy,
    ):
        idle.sendall(ASKED)
        assert answer(idle).status == 200
        started(busy)
        server.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        assert _is_refused(server)
        busy.sendall(BODY[-1:])
        answered = answer(busy, "POST")
        assert answered.status == 200
        assert b"0.6366" in answered.body
        assert answered.getheader("connection") == "close"
        assert server.process.wait(20) == 0


def _is_refused(server):
    """Return True if the kernel refuses connections, which takes up to a second."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            with connected(server):
                pass
        except ConnectionRefusedError:
            return True
    return False


def test_incomplete_request_is_answered(artifacts):
    with serving(artifacts, **settings("1")) as server, connected(server) as connection:
        connection.sendall(ASKED[:20])
        server.process.send_signal(signal.SIGTERM)
        while is_accepting(server):
            pass
        connection.sendall(ASKED[20:])
        assert answer(connection).status == 503
        assert server.process.wait(20) == 0


@ONE_OR_TWO
def test_queued_connections_are_answered(artifacts, workers):
    with serving(artifacts, **settings(workers)) as server, contextlib.ExitStack() as stack:
        accepting = _children(server)
        for pid in accepting:
            os.kill(pid, signal.SIGSTOP)
        waiting = [stack.enter_context(connected(server)) for _ in range(8)]
        for connection in waiting:
            connection.sendall(ASKED)
        server.process.send_signal(signal.SIGTERM)
        for pid in accepting:
            os.kill(pid, signal.SIGCONT)
        assert {answer(connection).status for connection in waiting} <= {200, 503}
        assert server.process.wait(20) == 0


def _children(server):
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:  # noqa: PTH123
        return [int(child) for child in children.read().split()]


@ONE_OR_TWO
def test_requests_beyond_the_limit_are_aborted_with_status_1(artifacts, workers):
    with (
        serving(artifacts, **settings(workers, drain="1")) as server,
        connected(server) as connection,
    ):
        started(connection)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 1
        assert time.monotonic() - began < 10


@ONE_OR_TWO
def test_second_signal_ends_the_service_now(artifacts, workers):
    with serving(artifacts, **settings(workers)) as server, connected(server) as connection:
        started(connection)
        server.process.send_signal(signal.SIGTERM)
        server.await_log("draining")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == (143 if workers == "1" else 1)


@ONE_OR_TWO
def test_interrupt_has_no_grace_time(artifacts, workers):
    with serving(artifacts, **settings(workers, grace=LONG)) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
