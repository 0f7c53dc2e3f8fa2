"""Traces in an OTLP receiver: requests, models and phases."""

import contextlib
import gzip
import http.server
import itertools
import json
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import beginning_with, environment, run, serving

from gatewave.service.observability import tracing
from gatewave.service.observability.tracing.trace import MAX_MARKS

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SAMPLED, IGNORED = "01", "00"
SINC = {"activation": "sinc", "inputs": {"x": [0.5]}}
LARGE = {"activation": "sinc", "inputs": {"x": [0.5] * 200_000}}


@dataclass
class Received:
    """Span as received."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    kind: int
    status: int
    attributes: dict
    resource: dict


@dataclass
class Receiver:
    """OTLP receiver over HTTP that keeps the spans."""

    url: str
    spans: queue.Queue = field(default_factory=queue.Queue)

    def until(self, wanted, timeout=30):
        """Return the spans received, once ``wanted`` is true of them."""
        seen = []
        while not wanted(seen):
            seen.append(self.spans.get(timeout=timeout))
        return seen


def _values(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def _read(body):
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.kind,
                    span.status.code,
                    _values(span.attributes),
                    _values(group.resource.attributes),
                )


@contextlib.contextmanager
def receiving(status=200, path="/v1/traces"):
    receiver = Receiver("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            self.send_response(status if self.path == path else 404)
            self.send_header("content-length", "0")
            self.end_headers()
            for span in _read(body):
                receiver.spans.put(span)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def traced(artifacts, address, **variables):
    # Spans go out at once, and to no proxy.
    variables = {"OTEL_BSP_SCHEDULE_DELAY": "10", "NO_PROXY": "*", **variables}
    return serving(artifacts, GATEWAVE_TRACES=address, **variables)


def ask(server, document, flags=SAMPLED, path="/activate"):
    headers = {
        "content-type": "application/json",
        "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-{flags}",
    }
    body = json.dumps(document).encode()
    request = urllib.request.Request(server.url + path, body, headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture(scope="module")
def receiver():
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(artifacts, receiver):
    with traced(artifacts, receiver.url) as server:
        yield server


def _root_is_in(seen):
    return any(span.parent_id in {PARENT_ID, ""} for span in seen)


def _trace(receiver, names):
    """Return the server's span of the next trace, and its children by name."""
    seen = receiver.until(lambda seen: _root_is_in(seen) and names <= {span.name for span in seen})
    (root,) = (span for span in seen if span.parent_id in {PARENT_ID, ""})
    return root, {span.name: span for span in seen if span is not root}


@pytest.mark.parametrize(
    ("document", "phases"),
    [(SINC, {"decode", "compute", "encode"}), (LARGE, {"decode", "queue", "compute", "encode"})],
    ids=["on the event loop", "in a lane"],
)
def test_a_request_is_a_span_within_its_callers_trace_with_a_child_for_each_phase(
    receiver, server, document, phases
):
    assert ask(server, document) == 200
    root, children = _trace(receiver, phases)
    assert root.trace_id == TRACE_ID
    assert root.parent_id == PARENT_ID
    assert root.name == "POST /activate"
    assert root.kind == 2
    assert root.status == 0
    assert root.attributes["http.request.method"] == "POST"
    assert root.attributes["http.route"] == "/activate"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["gatewave.model"] == "sinc"
    assert root.attributes["gatewave.model.version"] == "1"
    assert root.attributes["gatewave.provider"] == "CPUExecutionProvider"
    assert root.resource["service.name"] == "gatewave"
    assert children.keys() == phases
    for child in children.values():
        assert child.parent_id == root.span_id
        assert child.trace_id == TRACE_ID
        assert root.began <= child.began <= child.ended <= root.ended
    order = [children[name] for name in ("decode", "compute", "encode")]
    assert all(a.ended <= b.began for a, b in itertools.pairwise(order))


def test_no_numbers_of_the_caller_are_in_a_span(receiver, server):
    ask(server, {"activation": "sinc", "inputs": {"x": [0.123456789]}})
    root, children = _trace(receiver, {"decode", "compute", "encode"})
    assert "0.1234" not in f"{root}{children}"


def test_a_refusal_is_traced_too_and_is_not_the_services_fault(receiver, server):
    assert ask(server, {"activation": "nothing", "inputs": {}}) == 404
    root, _ = _trace(receiver, set())
    assert root.attributes["http.response.status_code"] == 404
    assert root.status == 0


def test_a_request_without_context_is_a_trace_of_its_own(receiver, server):
    server.get("/activations/sinc")
    root, _ = _trace(receiver, set())
    assert root.parent_id == ""
    assert root.trace_id != TRACE_ID
    assert root.name == "GET /activations/{name}"


def test_a_made_up_method_and_path_name_no_span(receiver, server):
    request = urllib.request.Request(server.url + "/made/up", method="BREW")  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)  # noqa: S310
    caught.value.close()
    root, _ = _trace(receiver, set())
    assert root.name == "HTTP unmatched"
    assert root.attributes["http.request.method"] == "_OTHER"


@pytest.mark.parametrize("header", ["nonsense", "00-0-0-01", f"00-{'0' * 32}-{PARENT_ID}-01"])
def test_a_context_that_is_none_begins_a_new_trace(receiver, server, header):
    request = urllib.request.Request(server.url + "/livez", headers={"traceparent": header})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        assert response.status == 200
    root, _ = _trace(receiver, set())
    assert root.parent_id == ""


def test_what_the_caller_does_not_sample_is_not_sent_but_its_id_is_logged(receiver, server):
    server.log()
    ask(server, SINC, flags=IGNORED)
    server.get("/livez")
    root, children = _trace(receiver, set())
    assert root.name == "GET /livez"
    assert children == {}
    line = {}
    while line.get("path") != "/activate":
        line = json.loads(server.lines.get(timeout=10))
    assert line["trace_id"] == TRACE_ID


def test_a_receiver_that_is_not_there_fails_no_request_and_does_not_keep_the_server_from_ending(
    artifacts,
):
    with traced(artifacts, "http://127.0.0.1:1") as server:
        assert [ask(server, SINC) for _ in range(20)] == [200] * 20
        assert server.stop(timeout=20) == 0


def test_what_waits_is_sent_before_the_server_ends(artifacts):
    hour = str(3_600_000)
    with (
        receiving() as receiver,
        traced(artifacts, receiver.url, OTEL_BSP_SCHEDULE_DELAY=hour) as server,
    ):
        ask(server, SINC)
        assert receiver.spans.empty()
        assert server.stop() == 0
        names = {span.name for span in receiver.until(_root_is_in)}
    assert "POST /activate" in names


def test_a_path_of_the_receivers_own_is_kept(artifacts):
    with (
        receiving(path="/collect/here") as receiver,
        traced(artifacts, receiver.url + "/collect/here") as server,
    ):
        ask(server, SINC)
        assert receiver.until(_root_is_in)


def test_an_address_that_is_none_is_said_at_the_start(artifacts):
    ended = run("serve", "--artifacts", artifacts, "--port", "0", GATEWAVE_TRACES="collector:4318")
    assert ended.returncode == 2
    assert "GATEWAVE_TRACES" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_extra_is_said_at_the_start_with_what_to_install(artifacts, tmp_path):
    without = beginning_with("import sys; sys.modules['opentelemetry.sdk.trace'] = None", tmp_path)
    without["GATEWAVE_TRACES"] = "http://127.0.0.1:4318"
    ended = run("serve", "--port", "0", "--artifacts", artifacts, **without)
    assert ended.returncode == 2
    assert "pip install 'gatewave[tracing]'" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_the_service_knows_nothing_of_opentelemetry_when_traces_are_off(artifacts):
    program = (
        "import sys; from gatewave import Settings, create_app; "
        f"create_app(Settings(artifacts={str(artifacts)!r}, threads=1)); "
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(),
    )
    assert done.stdout.strip() == "[]"


def test_the_parts_that_are_told_of_one_request_are_bounded():
    with receiving() as receiver:
        tracer = tracing.start(receiver.url)
        trace = tracer.begin("stream", [])
        for _ in range(2 * MAX_MARKS):
            trace.mark("compute", 0.0, 1.0)
        trace.end("stream", failed=False, attributes={})
        tracer.close(10)
        spans = receiver.until(_root_is_in)
    assert sum(span.name == "compute" for span in spans) == MAX_MARKS
