"""Memory of bodies: held for received bytes only, and taken from slow clients."""

import contextlib
import json
import socket
import urllib.request

import numpy as np
import pytest
from heads import connect
from processes import serving
from safetensors.numpy import save
from waiting import eventually

from gatewave.service.serving.memory import REPORT_STEP

MIB = 1 << 20
BUDGET = 64 * MIB
TENSORS = save({"x": np.zeros(7 * MIB // 4, np.float32)}, {"activation": "sinc"})
"""Request of 7 MiB; its answer has 7 MiB too."""
SAFETENSORS = "content-type: application/vnd.safetensors\r\n"
BINARY = f"{SAFETENSORS}content-length: {16 * MIB}\r\n"


@pytest.fixture(scope="module")
def server(artifacts):
    settings = {
        "GATEWAVE_THREADS": "1",
        "GATEWAVE_MAX_MEMORY_BYTES": str(BUDGET),
        "GATEWAVE_MAX_JSON_BYTES": str(9 * MIB),
    }
    with serving(artifacts, **settings) as server:
        yield server


def head(fields, path="/activate"):
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{fields}\r\n".encode()


def reserved(server):
    with urllib.request.urlopen(f"{server.url}/metrics") as response:  # noqa: S310 - loopback
        lines = response.read().decode().splitlines()
    (line,) = [line for line in lines if line.startswith("gatewave_reserved_bytes")]
    return float(line.split()[-1])


def answer(connection):
    """Return the status of the next answer, and its document if it is a problem."""
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        fields = dict(line.strip().lower().split(b": ") for line in iter(file.readline, b"\r\n"))
        body = file.read(int(fields[b"content-length"]))
    return status, json.loads(body) if status != 200 else None


def asked(server, source="127.0.0.1", body=TENSORS):
    """Return the answer to a request in safetensors."""
    with connect(server, source) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head(f"{SAFETENSORS}content-length: {len(body)}\r\n") + body)
        return answer(connection)


@pytest.mark.parametrize(
    ("path", "fields", "first"),
    [
        ("/activate", BINARY, b""),
        ("/activate", BINARY, b"x" * 1000),
        ("/activate", f"content-type: application/json\r\ncontent-length: {8 * MIB}\r\n", b""),
        ("/activate/batch", f"content-length: {8 * MIB}\r\n", b"{"),
        ("/activate", f"{SAFETENSORS}transfer-encoding: chunked\r\n", b"1\r\nx\r\n"),
        (
            "/v2/models/swiglu/infer",
            f"inference-header-content-length: 100\r\ncontent-length: {16 * MIB}\r\n",
            b"",
        ),
        ("/v2/models/swiglu/infer", f"content-length: {8 * MIB}\r\n", b"{"),
        ("/v2/models/swiglu/infer", f"content-encoding: gzip\r\ncontent-length: {MIB}\r\n", b""),
    ],
    ids=["silent", "begun", "json", "batch", "chunked", "oip-raw", "oip-json", "oip-gzip"],
)
def test_an_announcement_holds_no_memory(server, path, fields, first):
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(connect(server))
            connection.sendall(head(fields, path) + first)
        for _ in range(3):
            assert asked(server)[0] == 200
        assert reserved(server) < MIB


def test_a_body_that_cannot_fit_is_refused_before_it_comes(server):
    with connect(server) as connection:
        fields = f"content-type: application/json\r\ncontent-length: {9 * MIB}\r\n"
        connection.sendall(head(fields) + b"[")
        status, problem = answer(connection)
        assert status == 503
        assert str(72 * MIB) in problem["detail"]


def stall(stack, server, fields, sent, source):
    """Open a connection that sends only a part of its body."""
    connection = stack.enter_context(connect(server, source))
    connection.sendall(head(fields) + sent)
    return connection


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_that_stopped_coming_yield_their_memory(server, framing):
    if framing == "length":
        fields, sent = f"{SAFETENSORS}content-length: {16 * MIB}\r\n", bytes(13 * MIB)
        held = 4 * 14 * MIB
    else:
        fields = f"{SAFETENSORS}transfer-encoding: chunked\r\n"
        sent = b"d00000\r\n" + bytes(13 * MIB) + b"\r\n"
        held = 4 * 13 * MIB - REPORT_STEP
    with contextlib.ExitStack() as stack:
        # Each of another client, so that all of them together hold nearly everything.
        stalled = [stall(stack, server, fields, sent, f"127.0.0.{n}") for n in range(2, 6)]
        eventually(lambda: reserved(server) >= held)
        eventually(lambda: asked(server)[0] == 200)
        # As many as had to yield, and no more.
        eventually(lambda: 1 <= sum(map(is_answered, stalled)) <= 2)
        (yielded, *_) = filter(is_answered, stalled)
        status, problem = answer(yielded)
        assert (status, problem["status"]) == (503, 503)
        assert "slowly" in problem["detail"]
    eventually(lambda: reserved(server) < MIB)


def is_answered(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(30)


@contextlib.contextmanager
def untaken(server, source):
    """Send a request without reading its answer: 14 MiB are held."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.settimeout(30)
        connection.bind((source, 0))
        host, _, port = server.url.removeprefix("http://").partition(":")
        connection.connect((host, int(port)))
        connection.sendall(head(f"{SAFETENSORS}content-length: {len(TENSORS)}\r\n") + TENSORS)
        yield connection


def test_one_client_holds_no_more_than_its_share(server):
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(untaken(server, "127.0.0.1"))
        eventually(lambda: reserved(server) >= 28 * MIB)
        status, problem = asked(server)
        assert status == 503
        assert "one client" in problem["detail"]
        assert asked(server, "127.0.0.2")[0] == 200
    eventually(lambda: asked(server)[0] == 200)


def test_answers_that_are_taken_a_byte_at_a_time_yield_their_memory(server):
    with contextlib.ExitStack() as stack:
        dribbling = [stack.enter_context(untaken(server, f"127.0.0.{n}")) for n in range(2, 6)]
        eventually(lambda: reserved(server) >= 56 * MIB)

        def is_served():
            for connection in dribbling:
                with contextlib.suppress(ConnectionError):
                    connection.recv(1)
            return asked(server)[0] == 200

        eventually(is_served)
        server.await_log("a client that did not take its answer was cut off")
        assert reserved(server) >= 28 * MIB
    eventually(lambda: reserved(server) < MIB)


def test_a_single_request_may_hold_more_than_the_share_of_its_client(server):
    body = save({"x": np.zeros(6 * MIB, np.float32)}, {"activation": "sinc"})
    assert asked(server, body=body)[0] == 200
