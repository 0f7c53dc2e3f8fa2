"""Workers that share a port: a worker that dies is replaced, and all end together."""

import contextlib
import http.client
import os
import re
import signal
import socket
import urllib.parse
from pathlib import Path

import pytest
from chaos import awaited, children, peers
from processes import run, serving

from gatewave.service.errors import SettingsInvalid
from gatewave.service.processes.launch import check_worker_settings, worker_settings
from gatewave.service.processes.worker import Worker
from gatewave.service.settings import Settings

TWO = {"GATEWAVE_WORKERS": "2", "GATEWAVE_THREADS": "1", "GATEWAVE_GRACE_SECONDS": "0.2"}
ASKED = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
MANY = 16


@pytest.fixture
def server(artifacts):
    with serving(artifacts, **TWO) as server:
        server.log()  # That the first workers are ready is known.
        yield server


def connect(server):
    address = urllib.parse.urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def status(connection):
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def is_alive(pid):
    """Return True if the process runs; a zombie does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_connections_are_spread_over_all(server):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(MANY)]
        for connection in connections:
            connection.sendall(ASKED)
            assert status(connection) == 200
        ours = {connection.getsockname()[1] for connection in connections}
        held = [len(peers(pid) & ours) for pid in children(server.process.pid)]
    assert sum(held) == MANY
    assert min(held) > 0


def test_those_that_wait_for_a_worker_that_dies_are_answered_by_another(server):
    victim, other = children(server.process.pid)
    os.kill(victim, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(MANY)]
        for connection in connections:
            connection.sendall(ASKED)
        os.kill(victim, signal.SIGKILL)
        assert [status(connection) for connection in connections] == [200] * MANY
        assert {connection.getsockname()[1] for connection in connections} <= peers(other)
    assert server.await_log("worker is ready")["pid"] != victim
    assert len(children(server.process.pid)) == 2
    assert server.stop() == 0


def test_a_worker_that_is_told_to_end_loses_nothing_and_is_replaced(server):
    told, other = children(server.process.pid)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(MANY)]
        for connection in connections:
            connection.sendall(ASKED)
            assert status(connection) == 200
        os.kill(told, signal.SIGTERM)
        server.await_log("draining")
        for connection in connections:
            connection.sendall(ASKED)
            assert status(connection) in {200, 503}
    assert server.await_log("worker ended; it is replaced")["status"] == 0
    assert server.await_log("worker is ready")["pid"] not in {told, other}
    assert not is_alive(told)
    assert server.stop() == 0


def test_all_told_at_once_end_as_one(server):
    with connect(server) as connection:
        connection.sendall(b"POST /activate HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{")
        for pid in (*children(server.process.pid), server.process.pid):
            os.kill(pid, signal.SIGTERM)
        server.await_log("draining")
        connection.sendall(b" " * 39)
        assert status(connection) == 400
    assert server.process.wait(20) == 0


def test_workers_do_not_outlive_their_supervisor(server):
    workers = children(server.process.pid)
    server.process.kill()
    try:
        assert awaited(lambda: not any(map(is_alive, workers)))
    finally:
        for pid in filter(is_alive, workers):
            os.kill(pid, signal.SIGKILL)


def test_they_answer_small_requests_as_soon_as_they_are_read(artifacts):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Worker(Settings(artifacts=artifacts, device="cpu", threads=1), 0, [], theirs)
        assert worker.config.http.keywords["fast_path"] is not None
        worker.state.close(0)


def test_metrics_are_kept_in_memory(artifacts, tmp_path):
    with serving(artifacts, **TWO, TMPDIR=str(tmp_path)) as server:
        server.log()
        first, second = children(server.process.pid)
        assert list(tmp_path.iterdir()) == []
        os.kill(first, signal.SIGKILL)
        server.await_log("worker is ready")
        told = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=20)
        told.request("GET", "/metrics")
        text = told.getresponse().read().decode()
        told.close()
        pids = set(re.findall(r'process_threads\{pid="(\d+)"\}', text))
        assert str(first) not in pids
        assert {str(second)} < pids
        assert server.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_other_workers_share_is_taken(server, artifacts):
    port = server.url.rpartition(":")[2]
    ended = run("serve", "--artifacts", artifacts, "--port", port, **TWO)
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr


def test_workers_that_cannot_start_end_the_service_with_the_reason(tmp_path):
    ended = run("serve", "--artifacts", tmp_path, "--port", "0", "--workers", "2")
    assert ended.returncode == 1
    assert "gatewave export" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_workers_that_die_before_they_serve_end_the_service_after_a_few(artifacts, tmp_path):
    # A file where a module is looked for first: the worker cannot even be imported.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'gatewave.service.processes.worker' in sys.orig_argv: os.kill(os.getpid(), 9)\n"
    )
    ended = run("serve", "--artifacts", artifacts, "--port", "0", **TWO, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    assert "workers do not start: one ended with -9" in " ".join(ended.stderr.split())
    assert ended.stdout.count("it is replaced") <= 4


def test_processors_are_divided_among_workers():
    assert worker_settings(Settings(workers=3), 8).threads == 2
    assert worker_settings(Settings(workers=3), 8).lanes == 2
    assert worker_settings(Settings(workers=4), 2).threads == 1
    assert worker_settings(Settings(workers=2, threads=5, lanes=7), 8).threads == 5
    assert worker_settings(Settings(workers=2, threads=5, lanes=7), 8).lanes == 7


@pytest.mark.parametrize(
    "contradiction", [{"repository_mode": "explicit"}, {"grpc_port": 0}], ids=str
)
def test_what_several_cannot_do_is_refused(contradiction):
    check_worker_settings(Settings(workers=1, **contradiction))
    with pytest.raises(SettingsInvalid, match="needs workers 1, got 2"):
        check_worker_settings(Settings(workers=2, **contradiction))


def test_what_is_refused_ends_with_2(artifacts):
    ended = run(
        "serve", "--port", "0", "--artifacts", artifacts, "--workers", "2", GATEWAVE_GRPC_PORT="0"
    )
    assert ended.returncode == 2
    assert "grpc_port" in ended.stderr
