"""Requests over HTTP/1.1 on real connections: whole, in pieces, pipelined, malformed."""

import contextlib
import json
import re
import signal
import socket
import time
import urllib.request

import pytest
from heads import GOOD, OIP, connect, request
from processes import serving

from gatewave.service.http.connection.body_buffer import BODY_WAIT_SECONDS
from gatewave.service.http.connection.head import MAX_HEAD_BYTES, MAX_HEADERS
from gatewave.service.security.keys import new_key

BAD = json.dumps({"activation": "swiglu", "inputs": {"a": [1, 2]}}).encode()


@pytest.fixture(scope="module")
def server(artifacts):
    with serving(artifacts) as server:
        # The application answers the first request of its kind; the fast path answers the others.
        assert exchange(server, request(GOOD))[0][0] == 200
        yield server


def answers(connection, count):
    """Return the status, headers and document of each of the next ``count`` answers."""
    with connection.makefile("rb") as file:
        return [_answer(file) for _ in range(count)]


def _answer(file):
    status = int(re.match(rb"HTTP/1.1 (\d+)", file.readline())[1])
    headers = {}
    while (line := file.readline()) != b"\r\n":
        name, _, value = line.decode().strip().partition(": ")
        assert name not in headers
        headers[name] = value
    return status, headers, json.loads(file.read(int(headers["content-length"])))


def is_over(file):
    """Return True if the connection ends; with a reset, if more was sent than was read."""
    try:
        return file.read() == b""
    except ConnectionResetError:
        return True


def exchange(server, *pieces, count=1, pause=0.0):
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        return answers(connection, count)


def counted(server, labels):
    """Return the number of requests that the service has counted with ``labels``."""
    with urllib.request.urlopen(f"{server.url}/metrics") as response:  # noqa: S310 - loopback
        metrics = response.read().decode()
    pattern = rf"^gatewave_http_request_duration_seconds_count\{{.*{labels}\}} (\S+)"
    return sum(float(number) for number in re.findall(pattern, metrics, re.MULTILINE))


def outputs(answer):
    return answer[2]["outputs"]["y"]


def test_fast_path_and_application_give_the_same_answer(server):
    whole = request(GOOD)
    ((status, headers, document),) = exchange(server, whole)
    ((slow_status, slow_headers, slow_document),) = exchange(
        server, whole[:-5], whole[-5:], pause=2 * BODY_WAIT_SECONDS
    )
    assert (status, document) == (slow_status, slow_document)
    assert list(headers) == list(slow_headers)
    differing = {name for name in headers if headers[name] != slow_headers[name]}
    assert differing <= {"x-request-id", "date"}


@pytest.mark.parametrize("cut", [1, 20, 60, 90, 110])
def test_request_may_arrive_in_pieces(server, cut):
    whole = request(GOOD)
    (answer,) = exchange(server, whole[:cut], whole[cut:], pause=0.05)
    assert answer[0] == 200
    assert len(outputs(answer)) == 2


def test_chunked_body_is_read(server):
    head = b"POST /activate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (GOOD[:9], GOOD[9:], b""))
    (answer,) = exchange(server, head + chunks)
    assert len(outputs(answer)) == 2


def test_pipelined_requests_are_answered_in_order(server):
    bodies = [GOOD, BAD, GOOD, b"nonsense", *[GOOD] * 20, BAD]
    row = b"".join(request(body, x_request_id=f"n{i}") for i, body in enumerate(bodies))
    got = exchange(server, row, count=len(bodies))
    assert [headers["x-request-id"] for _, headers, _ in got] == [f"n{i}" for i in range(25)]
    assert [status for status, *_ in got] == [
        {GOOD: 200, BAD: 422}.get(body, 400) for body in bodies
    ]


def test_each_connection_gets_its_own_answer(server):
    bodies = [json.dumps({"activation": "sinc", "inputs": {"x": [n]}}).encode() for n in range(40)]
    asked = [request(body) for body in bodies]
    asked[10] = request(GOOD, path="http://")
    asked[20] = request(BAD)
    asked[30] = request(b"{")
    with contextlib.ExitStack() as open_:
        connections = [open_.enter_context(connect(server)) for _ in asked]
        for connection, question in zip(connections, asked, strict=True):
            connection.sendall(question)
        assert connections[10].recv(12) == b"HTTP/1.1 400"
        got = {n: answers(c, 1)[0] for n, c in enumerate(connections) if n != 10}
    statuses = {20: 422, 30: 400}
    assert [got[n][0] for n in got] == [statuses.get(n, 200) for n in got]
    assert [got[n][2]["outputs"]["y"] for n in (0, 1, 9, 39)] == [[1.0], [-0.0], [-0.0], [-0.0]]


def test_half_closed_connection_is_answered(server):
    with connect(server) as connection:
        connection.sendall(request(GOOD))
        connection.shutdown(socket.SHUT_WR)
        assert answers(connection, 1)[0][0] == 200


def test_request_before_malformed_bytes_is_answered(server):
    with connect(server) as connection:
        connection.sendall(request(GOOD) + b"nonsense\r\n\r\n")
        with connection.makefile("rb") as file:
            assert _answer(file)[0] == 200
            status, headers, problem = _answer(file)
            assert (status, problem["status"]) == (400, 400)
            assert problem["type"] == "urn:gatewave:problem:malformed-http"
            assert headers["content-type"] == "application/problem+json"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["connection"] == "close"
            assert headers["x-request-id"]
            assert file.read() == b""


MANY = b"".join(b"n%d: v\r\n" % number for number in range(MAX_HEADERS))
LONG = b"x" * (MAX_HEAD_BYTES + 1)
HEAD = b"POST /v2/models/swiglu/infer HTTP/1.1\r\nhost: x\r\n"
CHUNKED = b"POST /activate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
UNFINISHED = b" HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"

REFUSED = {
    "no-http": (b"\x16\x03\x01\x02\x00", 400),
    "no-version": (b"GET /\r\n\r\n", 400),
    "no-name": (b"GET / HTTP/1.1\r\na b: c\r\n\r\n", 400),
    "two-lengths": (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
    "no-chunk": (CHUNKED + b"zz\r\n", 400),
    "no-host": (b"POST http://" + UNFINISHED, 400),
    "half-a-host": (b"POST http://[" + UNFINISHED, 400),
    "no-port": (b"POST http://host:99999999/x" + UNFINISHED, 400),
    "no-path": (b"POST http://host" + UNFINISHED, 400),
    "many-headers": (b"GET / HTTP/1.1\r\nhost: x\r\n" + MANY + b"\r\n", 431),
    "many-headers-of-v2": (HEAD + MANY + b"a: b\r\n", 400),
    "long-header": (b"GET / HTTP/1.1\r\na: " + LONG + b"\r\n\r\n", 431),
    "long-header-without-an-end": (b"GET / HTTP/1.1\r\na: " + LONG, 431),
    "long-url": (b"GET /" + LONG + b" HTTP/1.1\r\n\r\n", 414),
    "long-url-without-an-end": (b"GET /" + LONG, 414),
    "many-trailers": (CHUNKED + b"1\r\n{\r\n0\r\n" + MANY + b"a: b\r\n" * 2, 431),
    "long-trailer": (CHUNKED + b"1\r\n{\r\n0\r\na: " + LONG * 6, 431),
}


@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["whole", "in-pieces"])
@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_malformed_request_gets_a_problem_document(server, sent, status, pause):
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent[:-2])
            time.sleep(pause)
            connection.sendall(sent[-2:])
        with connection.makefile("rb") as file:
            got, headers, document = _answer(file)
            assert is_over(file)
    assert got == status
    if sent.startswith(HEAD):
        assert document.keys() == {"error"}
    else:
        assert document["status"] == status
    assert headers["connection"] == "close"
    assert headers["cache-control"] == "no-store"


def test_largest_allowed_number_of_headers_is_read(server):
    more = {f"n{number}": "v" * 400 for number in range(MAX_HEADERS - 2)}
    assert exchange(server, request(GOOD, **more))[0][0] == 200


def test_malformed_request_is_counted_and_logged_as_info(server):
    server.log()
    refused = '"other".*unmatched.*"400"'
    before = counted(server, refused)
    exchange(server, b"nonsense\r\n\r\n")
    headers = {"connection": "upgrade", "upgrade": "websocket", "x_request_id": "last"}
    assert exchange(server, request(b"", "/activations", "GET", **headers))[0][0] == 200
    assert counted(server, refused) == before + 1
    lines = []
    while not lines or lines[-1]["request_id"] != "last":
        lines.append(json.loads(server.lines.get(timeout=30)))
    assert {line["level"] for line in lines} == {"info"}
    assert [line["path"] for line in lines if line["status"] == 400] == ["-"]


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_trailers_are_no_headers(server, pause):
    chunks = b"%x\r\n%s\r\n0\r\naccept: text/html\r\n\r\n" % (len(GOOD), GOOD)
    assert exchange(server, CHUNKED, chunks, pause=pause)[0][0] == 200
    assert exchange(server, CHUNKED + chunks)[0][0] == 200


@pytest.mark.parametrize("rest", [b"zz\r\n", b"0\r\na: " + LONG * 6], ids=["no-chunk", "trailer"])
def test_malformed_rest_is_not_answered_twice(server, rest):
    with connect(server) as connection:
        connection.sendall(CHUNKED.replace(b"activate", b"nowhere"))
        with connection.makefile("rb") as file:
            assert _answer(file)[0] == 404
            with contextlib.suppress(ConnectionError):
                connection.sendall(rest)
            assert is_over(file)


def test_last_answer_has_connection_close(server):
    with connect(server) as connection:
        connection.sendall(request(GOOD, connection="close"))
        with connection.makefile("rb") as file:
            assert _answer(file)[1]["connection"] == "close"
            assert file.read() == b""


def test_expect_is_continued(server):
    with connect(server) as connection:
        head, body = request(GOOD, expect="100-continue").split(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        with connection.makefile("rb") as file:
            assert file.readline().startswith(b"HTTP/1.1 100")
            assert file.readline() == b"\r\n"
            connection.sendall(body)
            assert _answer(file)[0] == 200


def test_percent_encoded_name_is_decoded(server):
    (plain, encoded) = exchange(
        server,
        request(OIP, "/v2/models/swiglu/infer"),
        request(OIP, "/v2/models/sw%69glu/infer"),
        count=2,
    )
    assert plain[2] == encoded[2]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/activate?x=1", {}, 200),
        ("/activate/", {}, 404),
        ("/activate", {"content_type": "text/plain"}, 415),
        ("/activate", {"accept": "text/html"}, 406),
        ("/activate", {"content_encoding": "gzip"}, 415),
        ("/v2/models/none/infer", {}, 404),
        ("/v2/models/swiglu/versions/2/infer", {}, 404),
        ("/v2/models/swiglu/infer", {"content_encoding": "gzip"}, 400),
    ],
)
def test_other_requests_go_to_the_application(server, path, headers, status):
    body = GOOD if path.startswith("/activate") else OIP
    assert exchange(server, request(body, path, **headers))[0][0] == status


def test_each_request_is_counted_and_logged_once(server):
    answered = 'route="/activate".*"200"'
    before = counted(server, answered)
    exchange(server, *[request(GOOD, x_request_id="counted")] * 3, count=3)
    assert counted(server, answered) == before + 3
    for _ in range(3):
        while server.await_log("request")["request_id"] != "counted":
            pass


def test_fast_path_checks_keys(artifacts):
    key, pair = new_key("infer")
    with serving(artifacts, GATEWAVE_KEYS=pair) as server:
        statuses = [
            exchange(server, request(GOOD, **headers))[0][0]
            for headers in ({}, {"x_api_key": key}, {"x_api_key": key}, {"x_api_key": "no"}, {})
        ]
    assert statuses == [401, 200, 200, 401, 401]


def test_drain_reads_incomplete_requests_and_closes_idle_connections(artifacts):
    with (
        serving(artifacts, GATEWAVE_GRACE_SECONDS="0") as server,
        connect(server) as idle,
        connect(server) as begun,
    ):
        for connection in (idle, begun):
            connection.sendall(request(GOOD) * 2)
            answers(connection, 2)
        begun.sendall(request(GOOD)[:20])
        server.process.send_signal(signal.SIGTERM)
        server.await_log("draining")
        begun.sendall(request(GOOD)[20:])
        ((status, headers, _),) = answers(begun, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert idle.recv(1) == b""
        assert server.process.wait(20) == 0


def test_body_in_one_byte_chunks_is_answered(server):
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"
    head = b"POST /activate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    ((status, _, document),) = exchange(server, head + chunks)
    assert (status, document["shape"]) == (200, [2])
