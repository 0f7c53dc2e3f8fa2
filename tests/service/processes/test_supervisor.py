"""The supervisor replaces workers that die or hang; models are loaded behind an open port."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from chaos import awaited, children, peers
from onnx_models import endless, put, scaled
from processes import GATEWAVE, serving

from gatewave.service.processes.launch import memory_file
from gatewave.service.processes.restarts import MAX_DELAY_SECONDS, STABLE_SECONDS, RestartPolicy
from gatewave.service.processes.worker_process import WorkerProcess
from gatewave.service.settings import Settings

ONE = {"GATEWAVE_THREADS": "1", "GATEWAVE_GRACE_SECONDS": "0.2"}
SINC = {"activation": "sinc", "inputs": {"x": [0]}}
X = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
HEARTBEAT_SECONDS = 2


def worker_of(server):
    (pid,) = children(server.process.pid)
    return pid


def document(server, path, body=None):
    """Return the status and the document of an answer with any status."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(server.url + path, data, 60) as response:  # noqa: S310 - loopback
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def is_alive(pid):
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def trials(pid):
    """Return the trial processes of the worker ``pid``."""
    with contextlib.suppress(FileNotFoundError):
        return children(pid)
    return []


@pytest.fixture
def loading(tmp_path):
    """Repository with a model ``slow``, with a long trial, and one that is soon ready."""
    put(tmp_path, "good", "1", scaled(2))
    put(tmp_path, "slow", "1", endless())
    return {"GATEWAVE_REPOSITORY": str(tmp_path)}


def test_a_lone_worker_that_crashes_is_replaced(artifacts):
    with serving(artifacts, **ONE, GATEWAVE_GRPC_PORT="0") as server:
        grpc = next(each for each in server.log() if "gRPC" in each["message"])["message"]
        victim = worker_of(server)
        os.kill(victim, signal.SIGSTOP)
        address = urllib.parse.urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as waiting:
            waiting.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            os.kill(victim, signal.SIGSEGV)
            os.kill(victim, signal.SIGCONT)
            ended = server.await_log("worker ended; it is replaced")
            # It may have accepted the connection before it died.
            with contextlib.suppress(ConnectionError):
                assert waiting.recv(12) in {b"HTTP/1.1 200", b""}
        assert (ended["pid"], ended["signal"]) == (victim, "SIGSEGV")
        assert server.await_log(grpc)
        assert server.post("/activate", SINC)["outputs"]["y"] == [1]
        assert worker_of(server) != victim
        assert server.stop() == 0


def test_a_stopped_worker_is_replaced(artifacts):
    with serving(artifacts, **ONE, GATEWAVE_HEARTBEAT_SECONDS=str(HEARTBEAT_SECONDS)) as server:
        victim = worker_of(server)
        os.kill(victim, signal.SIGSTOP)
        assert server.await_log("worker is silent; it is killed")["pid"] == victim
        assert server.post("/activate", SINC)["outputs"]["y"] == [1]
        assert worker_of(server) != victim


def test_a_stopped_supervisor_blames_no_worker(artifacts):
    with serving(artifacts, **ONE, GATEWAVE_HEARTBEAT_SECONDS="1") as server:
        worker = worker_of(server)
        server.process.send_signal(signal.SIGSTOP)
        os.kill(worker, signal.SIGSTOP)
        time.sleep(2)  # As when the machine is suspended, which is no event to wait for.
        server.process.send_signal(signal.SIGCONT)
        os.kill(worker, signal.SIGCONT)
        assert server.post("/activate", SINC)["outputs"]["y"] == [1]
        assert worker_of(server) == worker
        assert server.stop() == 0
        assert "worker is silent; it is killed" not in [line["message"] for line in server.log()]


def test_a_worker_ends_with_a_supervisor_that_died_with_unread_lines(artifacts):
    with serving(artifacts, **ONE, GATEWAVE_HEARTBEAT_SECONDS="0.4") as server:
        worker = worker_of(server)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)  # Its worker reports every tenth of a second.
        server.process.kill()
        assert awaited(lambda: not is_alive(worker))


def test_activations_answer_while_models_are_tried(artifacts, loading):
    with serving(artifacts, until_ready=False, **ONE, **loading) as server:
        assert document(server, "/livez")[0] == 200
        assert server.post("/activate", SINC)["outputs"]["y"] == [1]
        assert document(server, "/v2/models/sinc/ready")[0] == 200
        status, readiness = document(server, "/readyz")
        assert (status, readiness["status"]) == (503, "loading")
        assert "slow" in readiness["models"]["loading"]
        assert document(server, "/v2/health/ready")[0] == 503
        status, problem = document(server, "/v2/models/slow/infer", X)
        assert (status, problem["error"]) == (503, "model slow is not ready: loading")
        assert document(server, "/v2/models/slow/ready")[0] == 503
        _, models = document(server, "/v2/repository/index", {})
        assert ("slow", "LOADING") in {(model["name"], model["state"]) for model in models}
        assert awaited(lambda: document(server, "/v2/models/good/infer", X)[0] == 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_while_models_are_tried_ends_them(artifacts, loading, workers):
    long = {"GATEWAVE_GRACE_SECONDS": "30", "GATEWAVE_WORKERS": workers}
    with serving(artifacts, until_ready=False, **ONE | loading | long) as server:
        pids = children(server.process.pid)
        assert awaited(lambda: all(trials(pid) for pid in pids))
        tried = [trial for pid in pids for trial in trials(pid)]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert awaited(lambda: not any(map(is_alive, [*pids, *tried])))
        messages = [line["message"] for line in server.log()]
        assert "draining" in messages
        assert "ready" not in messages


def test_sigterm_before_the_port_opens_ends_with_0(artifacts):
    command = [sys.executable, "-P", "-m", "gatewave.service.processes.supervisor"]
    listener = socket.create_server(("127.0.0.1", 0))
    settings = Settings(artifacts=artifacts, threads=1)
    descriptors = [memory_file(settings.model_dump_json().encode()), listener.fileno()]
    with (
        listener,
        subprocess.Popen([*command, *map(str, descriptors)], pass_fds=descriptors) as process,
    ):
        assert awaited(lambda: children(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_sigterm_while_the_command_is_imported_ends_with_0():
    command = [sys.executable, "-X", "importtime", *GATEWAVE[1:], "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert any(line.split()[-1:] == ["gatewave.cli.early_signals"] for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_trials_of_a_killed_worker_end_with_it(artifacts, loading):
    with serving(artifacts, until_ready=False, **ONE, **loading) as server:
        worker = worker_of(server)
        assert awaited(lambda: trials(worker))
        tried = trials(worker)
        os.kill(worker, signal.SIGKILL)
        assert awaited(lambda: not any(map(is_alive, tried)))
        server.await_log("worker is ready")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_replacement_joins_the_others_when_its_models_were_tried(artifacts, loading):
    with serving(artifacts, until_ready=False, **ONE | loading, GATEWAVE_WORKERS="2") as server:
        victim, other = children(server.process.pid)
        os.kill(victim, signal.SIGKILL)
        assert awaited(lambda: victim not in children(server.process.pid))
        assert awaited(lambda: any(map(trials, set(children(server.process.pid)) - {other})))
        address = urllib.parse.urlsplit(server.url)
        with contextlib.ExitStack() as stack:
            connections = [
                stack.enter_context(
                    socket.create_connection((address.hostname, address.port), timeout=60)
                )
                for _ in range(16)
            ]
            for connection in connections:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(12) == b"HTTP/1.1 200"
            assert {connection.getsockname()[1] for connection in connections} <= peers(other)
        server.log()
        os.kill(other, signal.SIGKILL)
        # It waits for its models no longer: they are the first connections that it has.
        server.await_log("worker is ready")
        assert document(server, "/livez")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_crash_loop_is_slowed_down():
    restarts = RestartPolicy()
    now = time.monotonic()

    def delay(lived, status=-11):
        worker = WorkerProcess(0, None, None, started_at=now - lived)
        return restarts.after_death(worker, status)

    delays = [delay(0) for _ in range(12)]
    assert delays[:6] == [0, 0, 0, 1, 2, 4]
    assert delays[-1] == MAX_DELAY_SECONDS
    assert delay(STABLE_SECONDS + 1) == 0
    assert delay(0) == 0


ADOPTING = """
import ctypes, pathlib, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become ours, as those of pid 1 do
from gatewave.service.processes.worker_process import reap_orphans
shell = subprocess.run(["sh", "-c", "sleep 0 & echo $!"], stdout=subprocess.PIPE, check=True)
orphan = pathlib.Path("/proc", shell.stdout.decode().strip())
ours = subprocess.Popen(["true"])
while orphan.exists():
    reap_orphans({ours.pid})
    ours.poll()
sys.exit(ours.wait())
"""


def test_orphans_are_collected():
    subprocess.run([sys.executable, "-c", ADOPTING], check=True, timeout=60)


def test_the_supervisor_needs_neither_runtime_nor_framework():
    heavy = "onnxruntime numpy fastapi pydantic uvicorn grpc"
    program = (
        "import gatewave.service.processes.supervisor, sys; "
        f"print({{*sys.modules}} & {{*{heavy.split()}}})"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"set()\n"
