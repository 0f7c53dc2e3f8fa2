"""Limits on the requests of each client."""

import grpc
import pytest
from calls import serving_rpc
from heads import GOOD, OIP, asked_anew, connect, request, status
from processes import serving

from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.security import clients
from gatewave.service.security.clients import RateLimiter, client_of_call, network_of
from gatewave.service.security.keys import new_key
from gatewave.service.settings import Settings


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


def test_grpc_requests_of_each_client_are_limited(artifacts):
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
def test_grpc_peer_is_parsed(peer, client):
    assert client_of_call(peer, None) == client
    assert client_of_call(peer, b"key") == b"key"


def test_limiter_forgets_the_longest_silent_clients(monkeypatch):
    monkeypatch.setattr(clients, "MAX_CLIENTS", 2)
    limiter = RateLimiter(0.001)
    for name in ("a", "b", "c"):
        limiter.admit(name)
    assert [limiter.has_room(name) for name in ("a", "b", "c")] == [True, False, False]


def test_ipv6_network_is_one_client():
    assert network_of("2001:db8::1") == network_of("2001:db8:0:0:ffff::2")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1")
