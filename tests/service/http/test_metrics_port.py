"""Metrics on a separate port."""

import http.client
import os
import signal
import socket

import pytest
from processes import parsed, run, serving

from gatewave.service.security.keys import new_key

SWIGLU = {"activation": "swiglu", "inputs": {"a": [1.0, 2.0], "b": [0.5, 0.5]}}


def ask(netloc, path, key=None, method="GET"):
    """Return the status and text of an answer, on a new connection."""
    connection = http.client.HTTPConnection(netloc, timeout=30)
    try:
        connection.request(method, path, headers={"authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def netlocs(server, count):
    """Return the addresses for requests and for scrapes."""
    said = []
    while len(said) < count:
        message = parsed(server.lines.get(timeout=30))["message"]
        if message.startswith("serving metrics on "):
            said.append(message.rpartition("/")[2])
    (metrics,) = set(said)
    return server.url.rpartition("/")[2], metrics


@pytest.mark.parametrize("count", [1, 2])
def test_metrics_have_a_separate_port(artifacts, count):
    chosen = {"GATEWAVE_METRICS_PORT": "0", "GATEWAVE_WORKERS": str(count)}
    with serving(artifacts, **chosen, GATEWAVE_THREADS="1") as server:
        main, metrics = netlocs(server, count)
        assert main != metrics
        for _ in range(5):
            server.post("/activate", SWIGLU)
        status, text = ask(metrics, "/metrics")
        assert status == 200
        assert 'gatewave_request_seconds_count{model="swiglu",outcome="ok",version="1"} 5.0' in text
        assert text.count("process_threads{") == count
        for path, expected in (("/livez", 200), ("/readyz", 200), ("/activate", 404), ("/", 404)):
            assert ask(metrics, path)[0] == expected
        assert ask(metrics, "/activate", method="POST")[0] == 404
        status, text = ask(main, "/metrics")
        assert status == 404
        assert "GATEWAVE_METRICS_PORT" in text
        assert server.stop() == 0


def test_metrics_port_demands_the_same_keys(artifacts):
    key, entry = new_key("infer")
    with serving(artifacts, GATEWAVE_METRICS_PORT="0", GATEWAVE_KEYS=entry) as server:
        _, metrics = netlocs(server, 1)
        assert ask(metrics, "/metrics")[0] == 401
        assert ask(metrics, "/livez")[0] == 200
        assert ask(metrics, "/metrics", key)[0] == 200


def test_replacement_of_a_dead_worker_serves_metrics(artifacts):
    with serving(artifacts, GATEWAVE_METRICS_PORT="0", GATEWAVE_THREADS="1") as server:
        _, metrics = netlocs(server, 1)
        pid = int(ask(metrics, "/metrics")[1].partition('process_threads{pid="')[2].split('"')[0])
        os.kill(pid, signal.SIGKILL)
        assert netlocs(server, 1)[1] == metrics
        assert ask(metrics, "/metrics")[0] == 200


def test_taken_metrics_port_ends_the_start(artifacts):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        variables = {"GATEWAVE_METRICS_PORT": port, "GATEWAVE_WORKERS": "2"}
        ended = run("serve", "--port", "0", "--artifacts", artifacts, **variables)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in " ".join(ended.stderr.split())


def test_metrics_host_that_others_reach_needs_keys(artifacts):
    variables = {"GATEWAVE_METRICS_PORT": "0", "GATEWAVE_METRICS_HOST": "0.0.0.0"}  # noqa: S104
    ended = run("serve", "--port", "0", "--artifacts", artifacts, **variables)
    assert ended.returncode != 0
    assert "there are no keys" in " ".join(ended.stderr.split())
