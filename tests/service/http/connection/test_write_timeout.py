"""Clients that do not read their answers: the answers are held for a limited time."""

import contextlib
import signal
import socket
import time
import urllib.request
from urllib.parse import urlsplit

import numpy as np
from processes import serving
from safetensors.numpy import save
from waiting import eventually

MIB = 1 << 20
BUDGET = 64 * MIB
BODY = save({"x": np.zeros(2 * MIB, np.float32)}, {"activation": "sinc"})
"""Request of 8 MiB; its answer has 8 MiB too."""


@contextlib.contextmanager
def asking(server, body=BODY):
    """Send a request, and do not read its answer."""
    with socket.socket() as connection:
        # Small, so that the kernel takes little of the answer itself.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", urlsplit(server.url).port))
        kind = b"content-type: application/vnd.safetensors\r\n"
        head = b"POST /activate HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n"
        connection.sendall(head % (kind, len(body)) + body)
        yield connection


def metric(server, name):
    with urllib.request.urlopen(f"{server.url}/metrics") as response:  # noqa: S310 - loopback
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def count(connection):
    """Return the number of bytes that arrive until the connection ends."""
    total = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(MIB):
            total += len(piece)
    return total


def test_unread_answers_hold_memory_until_the_timeout(artifacts):
    settings = {"GATEWAVE_MAX_MEMORY_BYTES": str(BUDGET), "GATEWAVE_BODY_SECONDS": "0.7"}
    settings["GATEWAVE_CLIENT_MEMORY_SHARE"] = "1"
    with serving(artifacts, GATEWAVE_THREADS="1", **settings) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(asking(server))
            eventually(lambda: metric(server, "gatewave_reserved_bytes") >= 48 * MIB)
            with asking(server) as refused, asking(server) as too:
                first = {refused.recv(12), too.recv(12)}
            assert b"HTTP/1.1 503" in first
            eventually(lambda: metric(server, "gatewave_reserved_bytes") == 0)
            server.await_log("a client that did not take its answer was cut off")
        with asking(server) as taken:
            assert taken.recv(12) == b"HTTP/1.1 200"


def test_slow_reader_gets_its_whole_answer(artifacts):
    with (
        serving(artifacts, GATEWAVE_THREADS="1", GATEWAVE_BODY_SECONDS="0.4") as server,
        asking(server, BODY) as slow,
    ):
        came = 0
        began = time.monotonic()
        while came < 8 * MIB:
            piece = slow.recv(MIB)
            assert piece
            came += len(piece)
            if time.monotonic() - began < 1:
                time.sleep(0.01)  # It is the slow client.
        assert came > 8 * MIB


def test_client_that_does_not_read_does_not_delay_shutdown(artifacts):
    with (
        serving(artifacts, GATEWAVE_THREADS="1", GATEWAVE_GRACE_SECONDS="0") as server,
        asking(server) as connection,
    ):
        assert connection.recv(12) == b"HTTP/1.1 200"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert count(connection) < len(BODY)
