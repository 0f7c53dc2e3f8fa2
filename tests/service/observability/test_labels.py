"""Series, span names and log fields that requests of callers cannot extend."""

import grpc
import pytest
from calls import serving_rpc
from prometheus_client.parser import text_string_to_metric_families

from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc.paths import HEALTH, REFLECTION, UNKNOWN
from gatewave.service.grpc.paths import SERVICE as OIP
from gatewave.service.observability import metrics
from gatewave.service.observability.access_log import (
    MAX_LOGGED_METHOD,
    MAX_LOGGED_PATH,
    access_logger,
)
from gatewave.service.security.keys import new_key

SERVICE = "/inference.GRPCInferenceService"


def words(seed):
    """Return words that earlier callers did not use, different for each ``seed``."""
    return [f"{seed}", f"x{seed}", f"{seed}.{'y' * 300}", f"é{seed}", f"..%2f{seed}", f'"{seed}\\n']


def ask_http(client, word):
    """Send one HTTP request for each place in which a caller can put a word of its own."""
    token = "".join(c for c in word if c.isascii() and c.isalnum()) or "x"
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    client.request(f"M{token}"[:400], "/activate")
    client.request(f"M{token}"[:400], f"/{word}")
    for path in (
        f"/{word}",
        f"/activations/{word}",
        f"/activations/{word}/plot.svg",
        f"/activations/sinc/plot.{word}",
        f"/v2/models/{word}",
        f"/v2/models/sinc/versions/{word}",
        f"/v2/models/sinc/versions/{word}/stats",
        f"/static-offline-docs/{word}",
        f"/metrics?x={word}",
        f"/docs/{word}",
    ):
        client.get(path)
    for path, document in (
        ("/activate", {"activation": word, "inputs": {"x": [1.0]}}),
        ("/activate", {"activation": "sinc", "inputs": {word: [1.0]}, "dtype": word}),
        ("/activate", {"activation": "sinc", "inputs": {"x": [1.0]}, "outputs": [word]}),
        ("/activate/batch", {"requests": [{"activation": word, "inputs": {}}]}),
        (f"/v2/models/{word}/infer", {"inputs": [tensor]}),
        (f"/v2/models/sinc/versions/{word}/infer", {"inputs": [tensor]}),
        ("/v2/models/sinc/infer", {"id": word, "inputs": [tensor | {"name": word}]}),
        (f"/v2/repository/models/{word}/load", {}),
        (f"/v2/repository/models/{word}/unload", {}),
    ):
        client.post(path, json=document, headers={"x-request-id": token})
    media = f"application/{token}"
    client.post("/activate", content=b"{}", headers={"content-type": media, "accept": media})


def ask_rpc(channel, word):
    """Make one gRPC call for each place in which a caller can put a word of its own."""
    ascii_word = word.encode("ascii", "replace").decode()
    infer = pb.ModelInferRequest(model_name=word, model_version=word, id=word)
    asked = [
        (f"/{ascii_word}", b""),
        (f"/{ascii_word}/{ascii_word}", b""),
        (f"/{ascii_word}/a/b", b""),
        (f"{SERVICE}/{ascii_word}", b""),
        (f"/inference.{ascii_word}/ModelInfer", b""),
        (f"{SERVICE}/ModelInfer", infer.SerializeToString()),
        (f"{SERVICE}/ModelReady", pb.ModelReadyRequest(name=word).SerializeToString()),
        (f"{SERVICE}/ModelStatistics", pb.ModelStatisticsRequest(name=word).SerializeToString()),
        ("/grpc.health.v1.Health/Check", b"\x0a" + bytes([min(len(word), 100)]) + b"x" * 100),
    ]
    metadata = [("x-request-id", "r1"), ("user-agent", ascii_word)]
    calls = [
        channel.unary_unary(path).future(message, metadata=metadata, timeout=30)
        for path, message in asked
    ]
    for call in calls:
        assert call.exception() is not None or call.result() is not None


def series(client):
    """Return the name and labels of every series that counts requests."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.items()))
        for family in families
        if family.name.startswith("gatewave")
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def servers(settings):
    """A gRPC server with keys and one without; both count in this process."""
    small = settings.model_copy(update={"max_memory_bytes": 1 << 27})
    with (
        serving_rpc(small) as open_to_all,
        serving_rpc(small.model_copy(update={"keys": new_key("infer")[1]})) as guarded,
    ):
        yield open_to_all, guarded


def test_made_up_words_add_no_series(client, servers):
    def ask(word):
        ask_http(client, word)
        for served in servers:
            ask_rpc(served.channel, word)

    for word in words("first"):
        ask(word)
    before = series(client)
    for seed in ("second", "third"):
        for word in words(seed):
            ask(word)
    assert series(client) - before == set()


def test_labels_are_of_closed_sets(client, servers, app):
    ask_http(client, "fresh")
    for server in servers:
        ask_rpc(server.channel, "fresh")
    seen = {}
    for name, *labels in series(client):
        for label, value in labels:
            seen.setdefault((name.rpartition("_seconds")[0], label), set()).add(value)
    statuses = {status.name for status in grpc.StatusCode}
    reasons = metrics.reasons()
    models = {model.name for model in app.state.service.registry}
    services = (OIP, HEALTH, REFLECTION)
    served = {f"/{each.full_name}/{method.name}" for each in services for method in each.methods}
    assert seen["gatewave_grpc_request_duration", "method"] <= served | {UNKNOWN}
    assert UNKNOWN in seen["gatewave_grpc_request_duration", "method"]
    assert seen["gatewave_grpc_request_duration", "status"] <= statuses
    assert seen["gatewave_http_request_duration", "method"] <= metrics.METHODS | {"other"}
    assert all(value.isdigit() for value in seen["gatewave_http_request_duration", "status"])
    assert set().union(*(v for (_, label), v in seen.items() if label == "reason")) <= reasons
    assert set().union(*(v for (_, label), v in seen.items() if label == "model")) <= models
    versions = {value for (_, label), v in seen.items() if label == "version" for value in v}
    assert versions == {"1", app.version}


def test_logged_texts_of_callers_are_short(caplog):
    caplog.set_level("INFO")
    access_logger(enabled=True)("id", "M" * 4000, "/" + "p" * 4000, 404, 0.0)
    (record,) = caplog.records
    assert len(record.method) == MAX_LOGGED_METHOD + 1
    assert len(record.path) == MAX_LOGGED_PATH + 1


@pytest.mark.parametrize("path", ["/", "//", "/a", "/a/b/c", f"{SERVICE}/", SERVICE, "/p" * 2000])
def test_a_call_of_a_path_that_is_not_served_is_unknown(servers, caplog, path):
    caplog.set_level("INFO")
    for served, code in zip(servers, ("UNIMPLEMENTED", "UNAUTHENTICATED"), strict=True):
        assert served.channel.unary_unary(path).future(b"", timeout=30).code().name == code
    paths = {record.path for record in caplog.records if hasattr(record, "path")}
    assert paths == {UNKNOWN}
