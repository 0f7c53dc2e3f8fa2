"""Boundaries between requests, and refused heads."""

import asyncio
import contextlib
import itertools
import json
import re
import socket

import h11
import pytest
from calls import loop_in_a_thread
from heads import GOOD, OIP, connect, request
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import serving

from gatewave.service.http.configuration import configuration
from gatewave.service.http.connection.malformed import REFUSED
from gatewave.service.http.server import Server

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
END = b"GET /end HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def told(method, path, body):
    return json.dumps([method, path, body.decode("latin-1")]).encode()


async def echo(scope, receive, send):
    """Answer with the application's view of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    said = told(scope["method"], scope["path"], body)
    headers = [(b"content-length", b"%d" % len(said))]
    status = 400 if REFUSED in scope else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": said})


def fast_path(path, headers, body, began, came, address):  # noqa: ARG001 - as it is called
    said = told("POST", path, body)
    return (b"content-length: %d\r\n\r\n" % len(said), said) if path == "/fast" else None


@pytest.fixture(scope="module")
def listening():
    config = configuration(echo, None, fast_path)
    config.load()
    server = Server(config, None, lambda: None)
    made = []

    def protocol():
        made.append(
            config.http_protocol_class(
                config=config, server_state=server.server_state, app_state={}
            )
        )
        return made[-1]

    with loop_in_a_thread() as do:

        async def listen():
            return await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)

        async def close():
            listener.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)

        listener = do(listen())
        yield do, listener.sockets[0].getsockname(), made
        do(close())


def answered(listening, pieces):
    """Return the answers of a service that reads exactly these ``pieces``, one after the other."""
    do, address, made = listening
    with socket.create_connection(address, 20) as client:
        while not made or made[-1].transport is None:
            do(_nothing())
        connection = made.pop()
        for piece in pieces:
            do(_read(connection, piece))
        said = b""
        while data := client.recv(1 << 16):
            said += data
    heads = re.findall(rb"HTTP/1\.1 (\d+)", said)
    bodies = re.findall(rb"\r\n\r\n(\[.*?\])(?=HTTP|$)", said, re.DOTALL)
    return [(int(status), *json.loads(body)) for status, body in zip(heads, bodies, strict=True)]


async def _nothing():
    pass


async def _read(connection, piece):
    if not connection.transport.is_closing():
        connection.data_received(piece)


def by_h11(stream):
    """Return the requests in ``stream``, as h11 reads them."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(stream)
    requests = []
    while True:
        event = reader.next_event()
        match event:
            case h11.Request():
                requests.append([200, event.method.decode(), event.target.decode(), ""])
            case h11.Data():
                requests[-1][3] += bytes(event.data).decode("latin-1")
            case h11.EndOfMessage() | h11.PAUSED:
                if reader.our_state in (h11.SEND_RESPONSE, h11.MIGHT_SWITCH_PROTOCOL):
                    reader.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                    reader.send(h11.EndOfMessage())
                if reader.our_state is not h11.DONE:
                    break
                reader.start_next_cycle()
            case _:
                break
    return [tuple(request) for request in requests]


UPGRADES = (
    b"",
    b"Upgrade: h2c\r\n",
    b"Connection: Upgrade\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
)


@st.composite
def one_request(draw):
    method = draw(st.sampled_from(["GET", "POST", "POST"])).encode()
    path = draw(st.sampled_from(["/fast", "/slow"])).encode()
    head = method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n" + draw(st.sampled_from(UPGRADES))
    body = draw(st.sampled_from([b"", b"abc", SMUGGLED, b"x" * 300, b"\r\n\r\n"]))
    match draw(st.sampled_from(["none", "length", "chunked", "trailers"])):
        case "none":
            return head + b"\r\n"
        case "length":
            return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        case framing:
            end = b"Upgrade: x\r\n\r\n" if framing == "trailers" else b"\r\n"
            chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n" + end


@st.composite
def streams(draw):
    stream = b"".join(draw(st.lists(one_request(), min_size=1, max_size=5))) + END
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=6, unique=True).map(sorted))
    edges = [0, *cuts, len(stream)]
    return stream, [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]


@settings(max_examples=150, deadline=None)
@given(streams())
def test_requests_are_separated_as_by_h11(listening, case):
    stream, pieces = case
    assert answered(listening, pieces) == by_h11(stream)


@pytest.mark.parametrize("path", ["/fast", "/slow"])
@pytest.mark.parametrize("upgrade", UPGRADES[3:])
def test_upgrade_is_ignored_at_every_cut(listening, path, upgrade):
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n"
    stream = head % (path.encode(), upgrade, len(SMUGGLED)) + SMUGGLED + END
    expected = [(200, "POST", path, SMUGGLED.decode()), (200, "GET", "/end", "")]
    for cut in range(1, len(stream)):
        assert answered(listening, [stream[:cut], stream[cut:]]) == expected


def test_upgrade_is_ignored_byte_by_byte(listening):
    head = b"POST /slow HTTP/1.1\r\nHost: x\r\n%bContent-Length: 3\r\n\r\nabc"
    stream = head % UPGRADES[3] * 3 + END
    pieces = [bytes([byte]) for byte in stream]
    assert answered(listening, pieces) == [(200, "POST", "/slow", "abc")] * 3 + [
        (200, "GET", "/end", "")
    ]


def test_upgrade_of_http_1_0_is_ignored(listening):
    stream = b"POST /slow HTTP/1.0\r\n" + UPGRADES[3] + b"Content-Length: 3\r\n\r\nabc"
    assert answered(listening, [stream]) == [(200, "POST", "/slow", "abc")]


@pytest.fixture(scope="module")
def server(artifacts):
    with serving(artifacts) as server:
        yield server


def statuses(server, sent):
    """Return the statuses of all answers until the connection ends, and the last document."""
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            said = file.read()
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", said)]
    return found, json.loads(said.rpartition(b"\r\n\r\n")[2] or b"null")


@pytest.mark.parametrize(
    ("path", "body"), [("/activate", GOOD), ("/v2/models/swiglu/infer", OIP)], ids=["own", "oip"]
)
def test_request_with_upgrade_is_computed(server, path, body):
    settings = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "HTTP2_Settings": "AAMA"}
    asked = request(body, path, **settings)
    assert statuses(server, asked + asked)[0] == [200, 200]


POST = "POST {path} HTTP/1.1\r\n"
BODY = "Content-Length: 5\r\n"
REFUSED_HEADS = {
    "no-host": (POST + BODY, 400, "Host"),
    "two-hosts": (POST + "Host: x\r\nHost: x\r\n" + BODY, 400, "Host"),
    "hosts-in-one": (POST + "Host: a, b\r\n" + BODY, 400, "Host"),
    "host-with-a-path": (POST + "Host: a/b\r\n" + BODY, 400, "Host"),
    "host-with-a-user": (POST + "Host: a@b\r\n" + BODY, 400, "Host"),
    "host-with-a-word-for-a-port": (POST + "Host: a:b\r\n" + BODY, 400, "Host"),
    "host-half-an-address": (POST + "Host: [::1\r\n" + BODY, 400, "Host"),
    "host-not-ascii": (POST + "Host: \xe4\r\n" + BODY, 400, "Host"),
    "gzip-chunked": (POST + "Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", 501, "Transfer"),
    "gzip": (POST + "Host: x\r\nTransfer-Encoding: gzip\r\n", 501, "Transfer"),
    "identity": (POST + "Host: x\r\nTransfer-Encoding: identity\r\n", 501, "Transfer"),
    "chunked-twice": (POST + "Host: x\r\nTransfer-Encoding: chunked, chunked\r\n", 501, "Transfer"),
    "two-encodings": (
        POST + "Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        501,
        "Transfer",
    ),
    "chunked-with-a-parameter": (
        POST + "Host: x\r\nTransfer-Encoding: chunked;q=1\r\n",
        501,
        "Transfer",
    ),
    "encoding-and-length": (
        POST + "Host: x\r\nTransfer-Encoding: chunked\r\n" + BODY,
        400,
        "Content-Length",
    ),
    "length-and-encoding": (
        POST + "Host: x\r\n" + BODY + "Transfer-Encoding: chunked\r\n",
        400,
        "Content-Length",
    ),
    "two-lengths": (POST + "Host: x\r\n" + BODY + BODY, 400, "Content-Length"),
    "lengths-in-one": (POST + "Host: x\r\nContent-Length: 5, 5\r\n", 400, "Content-Length"),
    "signed-length": (POST + "Host: x\r\nContent-Length: +5\r\n", 400, "Content-Length"),
    "negative-length": (POST + "Host: x\r\nContent-Length: -5\r\n", 400, "Content-Length"),
    "no-length": (POST + "Host: x\r\nContent-Length:\r\n", 400, "Content-Length"),
    "space-before-colon": (POST + "Host: x\r\nContent-Length : 5\r\n", 400, ""),
    "folded-line": (POST + "Host: x\r\nA: b\r\n c\r\n" + BODY, 400, ""),
    "bare-cr": (POST + "Host: x\r\nA: b\rc\r\n" + BODY, 400, ""),
    "bare-lf": (POST + "Host: x\r\nA: b\nc: d\r\n" + BODY, 400, ""),
    "nul": (POST + "Host: x\r\nA: b\x00c\r\n" + BODY, 400, ""),
    "no-name": (POST + "Host: x\r\n: b\r\n" + BODY, 400, ""),
    "name-no-token": (POST + "Host: x\r\na(b: c\r\n" + BODY, 400, ""),
    "http-2": ("POST {path} HTTP/2.0\r\nHost: x\r\n" + BODY, 505, "HTTP/1.1"),
    "http-3": ("POST {path} HTTP/3.0\r\nHost: x\r\n" + BODY, 505, "HTTP/1.1"),
    "http-9": ("POST {path} HTTP/9.1\r\nHost: x\r\n" + BODY, 505, "HTTP/1.1"),
    "http-0.9": ("GET {path}\r\n", 400, "HTTP/1.1"),
    "no-http": ("GET {path} HTP/1.1\r\nHost: x\r\n", 400, ""),
}


@pytest.mark.parametrize("path", ["/activate", "/v2/models/swiglu/infer"])
@pytest.mark.parametrize(("head", "status", "named"), REFUSED_HEADS.values(), ids=REFUSED_HEADS)
def test_malformed_head_is_refused_and_ends_the_connection(server, path, head, status, named):
    wrong = head.format(path=path).encode("latin-1") + b"\r\nhello"
    found, document = statuses(server, wrong + SMUGGLED)
    assert found == [status]
    if path.startswith("/v2"):
        assert named in document["error"]
    else:
        assert document["status"] == status
        assert named in document["detail"]


@pytest.mark.parametrize("host", ["", "x", "x:80", "[::1]:8000", "a_b.c-d", "127.0.0.1:65535"])
def test_valid_host_is_accepted(server, host):
    asked = f"GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert statuses(server, asked)[0] == [200]


@pytest.mark.parametrize("field", ["Host: x \r\n", "Host: x\t \r\n"])
def test_spaces_after_a_host_are_ignored(server, field):
    head = f"GET /livez HTTP/1.1\r\n{field}Connection: close\r\n\r\n"
    assert statuses(server, head.encode())[0] == [200]


def test_spaces_after_a_transfer_encoding_are_ignored(server):
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked \r\n\r\n"
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert statuses(server, head + b"1\r\na\r\n0\r\n\r\n" + last)[0] == [200, 200]


def test_expectation_of_http_1_0_is_ignored(server):
    body = b'{"activation":"swiglu","inputs":{"a":[1],"b":[1]}}'
    head = b"POST /activate HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    assert statuses(server, head % len(body) + body)[0] == [200]


def test_http_1_0_needs_no_host(server):
    assert statuses(server, b"GET /livez HTTP/1.0\r\n\r\n")[0] == [200]


def test_preface_of_http_2_is_refused(server):
    assert statuses(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[0] == [505]


def test_connect_is_refused_and_ends_the_connection(server):
    asked = b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n"
    assert statuses(server, asked + SMUGGLED)[0] == [501]
