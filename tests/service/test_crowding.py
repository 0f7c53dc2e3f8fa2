"""Limits on connections, descriptors and requests: of all clients, and of each."""

import contextlib
import json
import resource
import socket
import sys
from pathlib import Path

import grpc
import pytest
from calls import eventually, serving_rpc
from heads import GOOD, OIP, connect, request
from processes import serving

from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.security import clients
from gatewave.service.security.clients import RateLimiter, client_of_call, network_of
from gatewave.service.security.keys import new_key
from gatewave.service.settings import Settings

LIVEZ = request(b"", "/livez", "GET")
LIMITED = (
    "import resource as r; _, hard = r.getrlimit(r.RLIMIT_NOFILE); "
    "r.setrlimit(r.RLIMIT_NOFILE, (%s, %s)); from gatewave.cli.main import main; main()"
)
FEW = [sys.executable, "-c", LIMITED % (128, 128)]
"""Command that serves with few file descriptors."""


def status(connection, asked):
    """Return the status and the document of the answer to ``asked``; 0 if the connection ends."""
    try:
        connection.sendall(asked)
        with connection.makefile("rb") as file:
            first = file.readline()
            if not first:
                return 0, None, {}
            fields = dict(
                line.strip().lower().split(b": ") for line in iter(file.readline, b"\r\n")
            )
            body = file.read(int(fields[b"content-length"]))
            return int(first.split()[1]), json.loads(body), fields
    except ConnectionError:
        return 0, None, {}


def asked_anew(server, asked, source="127.0.0.1"):
    with connect(server, source) as connection:
        return status(connection, asked)[0]


def is_closed(connection):
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
def test_a_service_with_few_descriptors_sheds_idle_connections(artifacts, idle):
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


def test_a_worker_takes_all_descriptors_that_it_may_have(artifacts):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = [sys.executable, "-c", LIMITED % (64, "hard")]
    with serving(artifacts, program=program) as server:
        pid = server.process.pid
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert resource.prlimit(int(worker), resource.RLIMIT_NOFILE) == (hard, hard)


def test_connections_are_limited_in_all_and_for_each_client(artifacts):
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


@pytest.mark.parametrize("with_keys", [False, True])
def test_requests_of_each_client_are_limited(artifacts, with_keys):
    key, pair = new_key("infer")
    other, other_pair = new_key("infer")
    settings = {"GATEWAVE_KEYS": f"{pair},{other_pair}"} if with_keys else {}
    settings["GATEWAVE_CLIENT_REQUESTS_PER_SECOND"] = "0.01"
    first, second = ({"x_api_key": k} if with_keys else {} for k in (key, other))
    with serving(artifacts, **settings) as server, connect(server) as connection:
        assert status(connection, request(GOOD, **first))[0] == 200
        code, problem, fields = status(connection, request(GOOD, **first))
        assert (code, problem["type"]) == (429, "urn:gatewave:problem:client-limited")
        assert 90 <= int(fields[b"retry-after"]) <= 100
        code, document, _ = status(connection, request(OIP, "/v2/models/swiglu/infer", **first))
        assert (code, list(document)) == (429, ["error"])
        for path in ("/livez", "/readyz"):
            assert status(connection, request(b"", path, "GET"))[0] == 200
        source = "127.0.0.1" if with_keys else "127.0.0.2"
        assert asked_anew(server, request(GOOD, **second), source) == 200
        if with_keys:
            # Unknown keys count for their address, however many there are.
            codes = [status(connection, request(GOOD, x_api_key=f"k{n}"))[0] for n in range(3)]
            assert codes == [401, 429, 429]


def test_requests_over_grpc_are_limited_too(artifacts):
    settings = Settings(
        artifacts=artifacts, device="cpu", threads=1, client_requests_per_second=0.01
    )
    inputs = [
        pb.ModelInferRequest.InferInputTensor(name=n, datatype="FP32", shape=[1]) for n in "ab"
    ]
    asked = pb.ModelInferRequest(
        model_name="swiglu", inputs=inputs, raw_input_contents=[bytes(4)] * 2
    )
    with serving_rpc(settings) as served:
        assert served.client.ModelInfer(asked).model_name == "swiglu"
        with pytest.raises(grpc.RpcError) as refused:
            served.client.ModelInfer(asked)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        (answer,) = served.client.ModelStreamInfer(iter([asked]))
        assert "requests a second" in answer.error_message
        with pytest.raises(grpc.RpcError) as refused:
            served.client.ModelMetadata(pb.ModelMetadataRequest(name="swiglu"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert served.client.ServerLive(pb.ServerLiveRequest()).live


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.0.0.7:50412", "10.0.0.7"),
        ("ipv6:%5B2001:db8::1%5D:50412", "2001:db8::/64"),
        ("ipv6:[::ffff:10.0.0.7]:50412", "10.0.0.7"),
        ("unix:/tmp/x", ""),
    ],
)
def test_a_call_is_its_callers(peer, client):
    assert client_of_call(peer, None) == client
    assert client_of_call(peer, b"key") == b"key"


def test_a_limiter_forgets_clients_that_sent_nothing_for_longest(monkeypatch):
    monkeypatch.setattr(clients, "MAX_CLIENTS", 2)
    limiter = RateLimiter(0.001)
    for name in ("a", "b", "c"):
        limiter.admit(name)
    assert [limiter.has_room(name) for name in ("a", "b", "c")] == [True, False, False]


def test_an_ipv6_network_is_one_client():
    assert network_of("2001:db8::1") == network_of("2001:db8:0:0:ffff::2")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1")
