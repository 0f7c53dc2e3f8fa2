"""The gRPC server: metadata, load, keys, TLS, and its end."""

import concurrent.futures
import contextlib
import socket
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
from calls import Client, loop_in_a_thread, serving_rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from processes import run, serving
from waiting import eventually

from gatewave.service import grpc as grpc_service
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc.handlers import SERVICE
from gatewave.service.security.keys import new_key
from gatewave.service.state import ServiceState
from gatewave.service.system.sockets import PortUnavailable

LARGE = np.linspace(-10, 10, 10_000, dtype=np.float32)


def sinc(x=LARGE):
    request = pb.ModelInferRequest(model_name="sinc", raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


@contextlib.contextmanager
def busy(served):
    """Keep the only worker busy until the block ends."""
    worker_pool = served.runtime.pipeline.worker_pool
    begun, done = threading.Event(), threading.Event()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        work = pool.submit(served.do, lanes_work(worker_pool, begun, done))
        assert begun.wait(30)
        try:
            yield worker_pool
        finally:
            done.set()
            work.result(30)


async def lanes_work(worker_pool, begun, done):
    await worker_pool.run(lambda: (begun.set(), done.wait(60)))


def test_it_is_live_and_ready(client):
    assert client.ServerLive(pb.ServerLiveRequest()).live
    assert client.ServerReady(pb.ServerReadyRequest()).ready


def test_models_are_ready_if_they_are_there(client):
    def ready(**which):
        return client.ModelReady(pb.ModelReadyRequest(**which)).ready

    assert ready(name="swiglu")
    assert ready(name="swiglu", version="1")
    assert not ready(name="swiglu", version="2")
    assert not ready(name="nonesuch")


def test_metadata_describe_server_and_models(client):
    server = client.ServerMetadata(pb.ServerMetadataRequest())
    assert server.name == "gatewave"
    assert "statistics" in server.extensions
    model = client.ModelMetadata(pb.ModelMetadataRequest(name="swiglu.grad.float64"))
    assert [tensor.name for tensor in model.inputs] == ["a", "b"]
    assert [tensor.name for tensor in model.outputs] == ["y", "dy_da", "dy_db"]
    assert {tensor.datatype for tensor in model.inputs} == {"FP64"}
    assert list(model.versions) == ["1"]
    config = client.ModelConfig(pb.ModelConfigRequest(name="sinc.bfloat16")).config
    assert config.input[0].data_type == pb.TYPE_BF16
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU


def test_statistics_count_what_was_asked(client):
    def counted():
        statistics = client.ModelStatistics(pb.ModelStatisticsRequest(name="sinc"))
        (model,) = statistics.model_stats
        return model.inference_count, model.inference_stats.success.count

    before = counted()
    client.ModelInfer(sinc())
    assert counted() == (before[0] + 1, before[1] + 1)
    everything = client.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    assert {"sinc", "swiglu.grad"} <= {model.name for model in everything}


def test_models_are_not_loaded_without_an_admin(client):
    for call, request in (
        (client.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="sinc")),
        (client.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="sinc")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_repository_is_listed(client):
    index = client.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
    assert ("swiglu", "1", "READY") in {(m.name, m.version, m.state) for m in index.models}


def test_reflection_names_the_services(served):
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = stub.ServerReflectionInfo(asked)
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE.full_name, "grpc.health.v1.Health"} <= names


def test_each_answer_has_a_request_id(client):
    _, call = client.ServerLive.with_call(
        pb.ServerLiveRequest(), metadata=[("x-request-id", "mine-1")]
    )
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-1"
    _, call = client.ServerLive.with_call(
        pb.ServerLiveRequest(), metadata=[("x-request-id", "not fit for logs")]
    )
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32


def test_a_rejected_call_is_told_when_to_retry(served, client):
    with busy(served) as worker_pool:
        waiting = client.ModelInfer.future(sinc(), timeout=60)
        eventually(lambda: worker_pool.queue.length == 1)
        with pytest.raises(grpc.RpcError) as caught:
            client.ModelInfer(sinc(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    assert len(waiting.result().raw_output_contents) == 1


def test_a_cancelled_call_leaves_the_queue(served, client):
    with busy(served) as worker_pool:
        call = client.ModelInfer.future(sinc(), timeout=60)
        eventually(lambda: worker_pool.queue.length == 1)
        call.cancel()
        eventually(lambda: worker_pool.queue.length == 0)


def test_no_call_starts_after_its_deadline(served, client):
    with busy(served) as worker_pool:
        with pytest.raises(grpc.RpcError) as caught:
            client.ModelInfer(sinc(), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: worker_pool.queue.length == 0)


def test_a_deadline_replaces_the_default_timeout(rpc_settings):
    settings = rpc_settings.model_copy(update={"timeout_seconds": 0.05, "max_queue": 2})
    with serving_rpc(settings) as served:
        with busy(served) as worker_pool:
            patient = served.client.ModelInfer.future(sinc(), timeout=60)
            eventually(lambda: worker_pool.queue.length == 1)
            with pytest.raises(grpc.RpcError) as caught:  # The default timeout passes.
                served.client.ModelInfer(sinc())
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert patient.result().raw_output_contents


def test_no_call_starts_after_its_timeout(served, client):
    request = sinc()
    request.parameters["timeout"].int64_param = 100_000
    with busy(served), pytest.raises(grpc.RpcError) as caught:
        client.ModelInfer(request, timeout=60)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "before the request could start" in caught.value.details()


def test_a_silent_call_ends_at_the_read_timeout(rpc_settings):
    settings = rpc_settings.model_copy(update={"body_seconds": 0.2})
    with serving_rpc(settings) as served:
        call = served.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        over = threading.Event()

        def nothing():
            over.wait(60)
            yield from ()

        with pytest.raises(grpc.RpcError) as caught:
            call(nothing(), timeout=60)
        over.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "within 0.2 seconds" in caught.value.details()


def test_few_messages_are_received_at_a_time(rpc_settings):
    settings = rpc_settings.model_copy(
        update={"max_memory_bytes": 2 * rpc_settings.max_body_bytes, "body_seconds": 0.5}
    )
    with serving_rpc(settings) as served:
        call = served.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        over = threading.Event()

        def nothing():
            over.wait(60)
            yield from ()

        idle = [call.future(nothing(), timeout=60) for _ in range(2)]
        eventually(lambda: len(served.server.handlers.admission.inference) == 2)
        # It is answered, and needs a slot: an idle call has lost its own.
        assert served.client.ModelInfer(sinc(), timeout=60).raw_output_contents
        ends = {each.exception().code() for each in idle}
        over.set()
        assert ends == {grpc.StatusCode.DEADLINE_EXCEEDED}


def test_many_calls_share_few_slots(rpc_settings):
    bytes_of_one = rpc_settings.max_body_bytes
    settings = rpc_settings.model_copy(
        update={
            "max_memory_bytes": 4 * bytes_of_one,
            "max_queue": 64,
            "client_memory_share": 1.0,  # all calls are one client's
        }
    )
    with serving_rpc(settings) as served:
        x = np.zeros(bytes_of_one // 8, np.float32)
        calls = [served.client.ModelInfer.future(sinc(x), timeout=60) for _ in range(4)]
        small = [served.client.ModelInfer.future(sinc(x[:3]), timeout=60) for _ in range(40)]
        outcomes = [call.exception() for call in calls]
        assert [call.result().outputs[0].shape for call in small] == [[3]] * 40
    refused = [error for error in outcomes if error is not None]
    assert all(error.code() is grpc.StatusCode.UNAVAILABLE for error in refused)
    assert served.runtime.pipeline.budget.used == 0


def test_results_are_bounded(rpc_settings):
    settings = rpc_settings.model_copy(update={"max_output_bytes": LARGE.nbytes})
    with serving_rpc(settings) as served:
        assert served.client.ModelInfer(sinc()).raw_output_contents
        more = np.append(LARGE, LARGE[:1])
        with pytest.raises(grpc.RpcError) as caught:
            served.client.ModelInfer(sinc(more))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"at most {LARGE.nbytes} bytes" in caught.value.details()


def test_an_internal_error_names_only_the_request_id(served, client, caplog, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(served.runtime.registry, "get", broken, raising=False)
    with pytest.raises(grpc.RpcError) as caught:
        client.ModelInfer(sinc(), metadata=[("x-request-id", "look-for-me")])
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "look-for-me" in caught.value.details()
    assert "secret" not in caught.value.details()
    assert "secret inside" in caplog.text


@pytest.fixture
def own(rpc_settings):
    with serving_rpc(rpc_settings) as served:
        yield served


def test_health_follows_readiness(own):
    stub = health_pb2_grpc.HealthStub(own.channel)

    def status(service):
        return stub.Check(health_pb2.HealthCheckRequest(service=service)).status

    watched = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE.full_name), timeout=60)
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    assert next(watched).status == serving
    assert {status(""), status(SERVICE.full_name)} == {serving}
    own.runtime.draining = True
    assert next(watched).status == not_serving
    assert {status(""), status(SERVICE.full_name)} == {not_serving}
    assert not own.client.ServerReady(pb.ServerReadyRequest()).ready
    assert own.client.ModelInfer(sinc()).raw_output_contents
    with pytest.raises(grpc.RpcError) as caught:
        status("nonesuch")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_an_unknown_service_is_watched_as_unknown(own):
    stub = health_pb2_grpc.HealthStub(own.channel)
    watched = stub.Watch(health_pb2.HealthCheckRequest(service="nonesuch"), timeout=60)
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watched.cancel()


def test_a_stop_answers_admitted_calls_and_ends_idle_ones(own):
    over = threading.Event()

    def one_and_wait():
        yield sinc()
        over.wait(60)

    stream = own.client.ModelStreamInfer(one_and_wait(), timeout=60)
    next(stream)
    watched = health_pb2_grpc.HealthStub(own.channel).Watch(health_pb2.HealthCheckRequest())
    next(watched)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, busy(own) as worker_pool:
        admitted = own.client.ModelInfer.future(sinc(), timeout=60)
        eventually(lambda: worker_pool.queue.length == 1)
        stopping = pool.submit(own.do, own.server.stop(60))
        assert list(stream) == []
        assert list(watched) == []
        assert not stopping.done()
        with (
            grpc.insecure_channel(f"127.0.0.1:{own.server.port}") as late,
            pytest.raises(grpc.RpcError) as caught,
        ):
            Client(late).ModelInfer(sinc(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert admitted.result().raw_output_contents
    stopping.result(30)
    over.set()


def test_keys_are_required(rpc_settings):
    (infer, first), (admin, second) = new_key("infer"), new_key("admin")
    settings = rpc_settings.model_copy(update={"keys": f"{first},{second}"})
    with serving_rpc(settings) as served:
        client = served.client

        def code(call, request, key=None, header="authorization", word="Bearer "):
            metadata = [(header, word + key)] if key else []
            try:
                call(request, metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        load = pb.RepositoryModelLoadRequest(model_name="x")
        assert code(client.ModelInfer, sinc()) is grpc.StatusCode.UNAUTHENTICATED
        assert code(client.ModelInfer, sinc(), "wrong") is grpc.StatusCode.UNAUTHENTICATED
        assert code(client.ModelInfer, sinc(), infer) is grpc.StatusCode.OK
        assert code(client.ModelInfer, sinc(), infer, "x-api-key", "") is grpc.StatusCode.OK
        assert code(client.ModelInfer, sinc(), admin) is grpc.StatusCode.OK
        assert code(client.RepositoryModelLoad, load, infer) is grpc.StatusCode.PERMISSION_DENIED
        assert code(client.RepositoryModelLoad, load, admin) is grpc.StatusCode.UNIMPLEMENTED
        assert code(client.ServerReady, pb.ServerReadyRequest()) is grpc.StatusCode.OK
        health = health_pb2_grpc.HealthStub(served.channel)
        assert code(health.Check, health_pb2.HealthCheckRequest()) is grpc.StatusCode.OK
        with pytest.raises(grpc.RpcError) as caught:
            next(client.ModelStreamInfer(iter([sinc()]), timeout=30))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        reflection = reflection_pb2_grpc.ServerReflectionStub(served.channel)
        with pytest.raises(grpc.RpcError) as caught:
            next(reflection.ServerReflectionInfo(iter([]), timeout=30))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [*OPENSSL.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return key, certificate


def test_tls_rejects_plain_text(rpc_settings, certificate):
    key, chain = certificate
    settings = rpc_settings.model_copy(update={"tls_certificate": chain, "tls_key": key})
    with serving_rpc(settings) as served:
        trust = grpc.ssl_channel_credentials(chain.read_bytes())
        with grpc.secure_channel(f"localhost:{served.server.port}", trust) as channel:
            assert Client(channel).ServerLive(pb.ServerLiveRequest(), timeout=30).live
        with pytest.raises(grpc.RpcError) as caught:
            served.client.ServerLive(pb.ServerLiveRequest(), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_without_a_certificate_is_rejected(rpc_settings, certificate):
    key, chain = certificate
    tls = {"tls_certificate": chain, "tls_key": key, "tls_client_ca": chain}
    with serving_rpc(rpc_settings.model_copy(update=tls)) as served:
        for pair, works in (((key.read_bytes(), chain.read_bytes()), True), ((None, None), False)):
            trust = grpc.ssl_channel_credentials(chain.read_bytes(), *pair)
            with grpc.secure_channel(f"localhost:{served.server.port}", trust) as channel:
                try:
                    live = Client(channel).ServerLive(pb.ServerLiveRequest(), timeout=10).live
                except grpc.RpcError:
                    live = False
            assert live is works


def test_a_port_in_use_is_reported(rpc_settings):
    runtime = ServiceState.start(rpc_settings)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        loop_in_a_thread() as do,
        pytest.raises(PortUnavailable, match="Address already in use"),
    ):
        do(grpc_service.start(runtime, taken.getsockname()[1]))
    runtime.close()


def test_grpc_is_not_imported_without_its_port():
    modules = "sys, gatewave.service.app, gatewave.service.http.server"
    program = f"import {modules}; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def said(ended):
    """Return the standard error of a process in one line."""
    return " ".join(ended.stderr.split())


def test_the_process_serves_both_protocols_and_ends_in_order(artifacts):
    with serving(artifacts, GATEWAVE_GRPC_PORT="0") as server:
        (port,) = (
            line["message"].rpartition(":")[2]
            for line in server.log()
            if "serving gRPC" in line["message"]
        )
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert Client(channel).ModelInfer(sinc(), timeout=30).raw_output_contents
        assert server.get("/readyz") == 200
        assert server.stop() == 0


def test_workers_share_the_grpc_port(artifacts):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {"GATEWAVE_GRPC_PORT": str(port), "GATEWAVE_WORKERS": "2"}
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with serving(artifacts, **variables) as server:
        started = []

        def have_both_started():
            started.extend(line for line in server.log() if "serving gRPC" in line["message"])
            return len(started) == 2

        eventually(have_both_started)
        for _ in range(16):
            with grpc.insecure_channel(f"127.0.0.1:{port}", own_connection) as channel:
                assert Client(channel).ModelInfer(sinc(), timeout=30).raw_output_contents
        assert server.stop() == 0


def test_a_process_without_its_grpc_port_ends_with_1(artifacts):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("serve", "--port", "0", "--artifacts", artifacts, GATEWAVE_GRPC_PORT=port)
    assert ended.returncode == 1
    assert f"gRPC cannot listen on 127.0.0.1:{port}: Address already in use" in said(ended)
    assert "Traceback" not in ended.stdout + ended.stderr
