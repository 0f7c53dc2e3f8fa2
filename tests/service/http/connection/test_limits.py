"""Limits on connections and file descriptors: of all clients, and of each."""

import contextlib
import resource
import socket
import sys
from pathlib import Path

import pytest
from heads import GOOD, OIP, asked_anew, connect, request, status
from processes import serving
from waiting import eventually

LIVEZ = request(b"", "/livez", "GET")
LIMITED = (
    "import resource as r; _, hard = r.getrlimit(r.RLIMIT_NOFILE); "
    "r.setrlimit(r.RLIMIT_NOFILE, (%s, %s)); from gatewave.cli.main import main; main()"
)
FEW = [sys.executable, "-c", LIMITED % (128, 128)]
"""Command that serves with few file descriptors."""


def is_closed(connection):
    """Return True if the server has closed ``connection``."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.settimeout(30)


@pytest.mark.parametrize("idle", ["silent", "answered", "half a head"])
def test_idle_connections_are_closed_when_descriptors_are_few(artifacts, idle):
    with serving(artifacts, program=FEW) as server, contextlib.ExitStack() as stack:
        opened = []
        for _ in range(200):
            connection = stack.enter_context(connect(server))
            opened.append(connection)
            if idle == "answered":
                status(connection, LIVEZ)
            elif idle == "half a head":
                connection.sendall(LIVEZ[:20])
        assert asked_anew(server, LIVEZ) == 200
        assert asked_anew(server, request(GOOD)) == 200
        assert asked_anew(server, request(OIP, "/v2/models/swiglu/infer")) == 200
        assert is_closed(opened[0])
        if idle == "answered":
            assert status(opened[-1], LIVEZ)[0] == 200
        line = server.await_log("no file descriptors left; idle connections are closed")
        assert line["level"] == "warning"
        assert server.stop() == 0


def test_health_checks_are_answered_without_idle_connections(artifacts):
    busy = f"POST /activate HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 19}\r\n\r\n[".encode()
    with serving(artifacts, program=FEW) as server, contextlib.ExitStack() as stack:

        def crowd():
            stack.enter_context(connect(server)).sendall(busy)
            return asked_anew(server, request(GOOD)) == 503

        eventually(crowd)
        for _ in range(60):
            stack.enter_context(connect(server)).sendall(busy)
        assert asked_anew(server, LIVEZ) == 200
        with connect(server) as connection:
            code, document, _ = status(connection, request(OIP, "/v2/models/swiglu/infer"))
            assert (code, list(document)) == (503, ["error"])
        # Until a body has stopped for so long that its connection is closed.
        eventually(lambda: asked_anew(server, request(GOOD)) == 200)


def test_idle_grpc_connections_leave_descriptors_for_http(artifacts):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    with (
        serving(
            artifacts, program=FEW, GATEWAVE_GRPC_PORT="0", GATEWAVE_DRAIN_SECONDS="12"
        ) as server,
        contextlib.ExitStack() as stack,
    ):
        said = next(each["message"] for each in server.log() if "gRPC" in each["message"])
        address = ("127.0.0.1", int(said.rpartition(":")[2]))
        for _ in range(200):
            connection = stack.enter_context(socket.create_connection(address, 30))
            with contextlib.suppress(ConnectionError):
                connection.sendall(preface)
        assert asked_anew(server, LIVEZ) == 200
        assert asked_anew(server, request(GOOD)) == 200
        # The clients say nothing more, for which gRPC would wait longer than it may.
        assert server.stop() == 0


def test_worker_raises_its_descriptor_limit(artifacts):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = [sys.executable, "-c", LIMITED % (64, "hard")]
    with serving(artifacts, program=program) as server:
        pid = server.process.pid
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert resource.prlimit(int(worker), resource.RLIMIT_NOFILE) == (hard, hard)


def test_connections_are_limited_in_total_and_per_client(artifacts):
    settings = {"GATEWAVE_MAX_CONNECTIONS": "20", "GATEWAVE_CLIENT_CONNECTIONS": "5"}
    busy = f"POST /activate HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 19}\r\n\r\n[".encode()
    with serving(artifacts, **settings) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(5)]
        assert asked_anew(server, request(GOOD)) == 200
        eventually(lambda: is_closed(idle[0]))
        for _ in range(5):
            stack.enter_context(connect(server)).sendall(busy)
        with connect(server) as connection:
            code, problem, fields = status(connection, request(GOOD))
        assert (code, problem["type"]) == (429, "urn:gatewave:problem:client-limited")
        assert fields[b"retry-after"] == b"1"
        assert asked_anew(server, request(OIP, "/v2/models/swiglu/infer")) == 429
        assert asked_anew(server, LIVEZ) == 200
        assert asked_anew(server, request(GOOD), "127.0.0.2") == 200
        for client in range(2, 5):
            for _ in range(5):
                stack.enter_context(connect(server, f"127.0.0.{client}")).sendall(busy)
        assert asked_anew(server, request(GOOD), "127.0.0.6") == 503
        assert asked_anew(server, LIVEZ, "127.0.0.6") == 200
