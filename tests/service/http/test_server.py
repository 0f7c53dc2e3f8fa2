"""Process of the service: start, answers during computation, log, stop, and errors at the start."""

import concurrent.futures
import contextlib
import json
import signal
import socket
import subprocess
import time
import urllib.parse

import pytest
from asked import WholeConnection
from processes import GATEWAVE, run, serving

SINC = {"activation": "sinc", "inputs": {"x": [0.5]}}


@pytest.fixture(scope="module")
def server(artifacts):
    with serving(artifacts, GATEWAVE_THREADS="2") as server:
        yield server


def test_it_answers(server):
    assert server.get("/readyz") == 200
    assert server.post("/activate", SINC)["outputs"]["y"] == [pytest.approx(0.63661975)]


def test_a_large_request_does_not_hold_up_a_small_one(server):
    number = b"0.123456,"
    large = b'{"activation":"sinc","inputs":{"x":[' + number * 800_000 + b"1]}}"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = [pool.submit(server.post, "/activate", large) for _ in range(4)]
        answered = 0
        while not all(call.done() for call in slow):
            assert server.get("/livez") == 200
            answered += 1
    assert [call.result()["shape"] for call in slow] == [[800_001]] * 4
    assert answered > 5


def test_many_clients_get_each_their_own_answer(server):
    def ask(x):
        return server.post("/activate", {"activation": "bilinear", "inputs": {"a": [x], "b": [2]}})

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200)))
    assert [answer["outputs"]["y"] for answer in answers] == [[2 * x] for x in range(200)]


def test_logs_are_json_lines_with_the_request_id(server):
    # Lines are written a moment late: those of earlier requests may still come.
    server.get("/openapi.json")
    while server.await_log("request")["path"] != "/openapi.json":
        pass
    server.post("/activate", SINC)
    line = server.await_log("request")
    assert line["path"] == "/activate"
    assert line["status"] == 200
    assert line["method"] == "POST"
    assert len(line["request_id"]) == 32
    assert line["milliseconds"] > 0


def test_sigterm_ends_it_and_what_is_under_way_is_answered(artifacts):
    with serving(artifacts) as server, concurrent.futures.ThreadPoolExecutor() as pool:
        large = b'{"activation":"sinc","inputs":{"x":[' + b"0.123456," * 800_000 + b"1]}}"
        slow = pool.submit(server.post, "/activate", large)
        time.sleep(0.2)
        status = server.stop()
        assert slow.result()["shape"] == [800_001]
    assert status == 0


def test_it_serves_on_when_nobody_reads_its_log_any_more(artifacts):
    command = [*GATEWAVE, "serve", "--port", "0", "--artifacts", str(artifacts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            with process.stdout as log:
                said = (json.loads(line)["message"] for line in log)
                url = next(line for line in said if line.startswith("serving on ")).split()[-1]
            connection = WholeConnection(urllib.parse.urlsplit(url).netloc)
            with contextlib.closing(connection):
                for _ in range(200):
                    connection.request("POST", "/activate", json.dumps(SINC))
                    with connection.getresponse() as response:
                        assert response.status == 200, response.read()
                        response.read()
            process.send_signal(signal.SIGINT)
            process.wait(20)
        finally:
            process.kill()


def test_no_artifacts_is_said_and_ends_with_1(tmp_path):
    ended = run("serve", "--port", "0", "--artifacts", tmp_path)
    assert ended.returncode == 1
    assert "gatewave export" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_cuda_that_is_not_there_is_said_and_ends_with_1(artifacts):
    ended = run("serve", "--port", "0", "--artifacts", artifacts, "--device", "cuda")
    assert ended.returncode == 1
    assert "CUDAExecutionProvider" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_setting_that_is_wrong_is_named_and_ends_with_2(artifacts):
    ended = run("serve", "--port", "0", "--artifacts", artifacts, GATEWAVE_MAX_RANK="many")
    assert ended.returncode == 2
    assert "max_rank" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_said_and_ends_with_1(artifacts):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("serve", "--artifacts", artifacts, "--port", port)
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
