"""One connection: what waits on it, for how long, and how much of it there may be."""

import asyncio
import contextlib
import re
import socket
import time
from types import SimpleNamespace

import pytest
from calls import eventually, loop_in_a_thread

from gatewave.service.errors import HeadTooLong, HttpMalformed
from gatewave.service.http.configuration import configuration
from gatewave.service.http.connection.body_buffer import BODY_WAIT_SECONDS
from gatewave.service.http.connection.flow_control import MAX_PIPELINED
from gatewave.service.http.connection.malformed import REFUSED
from gatewave.service.http.server import Server

ASKED = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
FAST = b"POST /fast HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1"
KEEP_ALIVE = 0.2


class Slow:
    """An application that answers when it is told to, and looks for the client as long."""

    def __init__(self):
        self.release = asyncio.Event()
        self.is_asked = False
        self.refused = None

    async def __call__(self, scope, receive, send):
        await receive()
        gone = asyncio.create_task(receive())
        await asyncio.sleep(0)
        self.refused = scope.get(REFUSED)
        self.is_asked = True
        await self.release.wait()
        gone.cancel()
        await answer(send, 400 if REFUSED in scope else 200, scope["path"].encode())


async def late(_, receive, send):
    await receive()
    await asyncio.sleep(3 * KEEP_ALIVE)
    await answer(send, 200, b"late")


async def answer(send, status, body):
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


MARKS = []


def fast_path(path, headers, body, began, came, address):  # noqa: ARG001 - as it is called
    MARKS.append((began, came))
    return (b"content-length: %d\r\n\r\n" % len(body), body) if path == "/fast" else None


@contextlib.contextmanager
def served(app, keep_alive=75):
    """``app`` on a port of its own, and one connection to it, from both sides."""
    config = configuration(app, None, fast_path)
    config.timeout_keep_alive = keep_alive
    config.load()
    server = Server(config, None, lambda: None)

    def protocol():
        return config.http_protocol_class(
            config=config, server_state=server.server_state, app_state={}
        )

    async def listen():
        return await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)

    async def close():
        listener.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    with loop_in_a_thread() as do:
        listener = do(listen())
        try:
            with socket.create_connection(listener.sockets[0].getsockname(), 20) as client:
                eventually(lambda: server.server_state.connections)
                (connection,) = server.server_state.connections
                yield SimpleNamespace(client=client, connection=connection, server=server, do=do)
        finally:
            do(close())


@pytest.fixture
def slow():
    app = Slow()
    with served(app) as it:
        yield SimpleNamespace(**vars(it), app=app, release=lambda: it.do(release(app)))


async def release(app):
    app.release.set()


def read(client):
    """All that comes until the connection ends, as one that was sent more than was read may."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            said += piece
    return said


def statuses(said):
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", said)]


@pytest.mark.parametrize("cut", [30, -1], ids=["head", "body"])
def test_what_comes_in_two_pieces_is_answered_at_once_too(slow, cut):
    slow.client.sendall(FAST[:cut])
    eventually(lambda: slow.connection.scope is not None)
    slow.client.sendall(FAST[cut:])
    assert slow.client.recv(1000).startswith(b"HTTP/1.1 200")
    assert not slow.app.is_asked


def test_the_application_waits_for_what_is_long_in_coming(slow):
    slow.client.sendall(FAST[:-1])
    time.sleep(2 * BODY_WAIT_SECONDS)
    slow.client.sendall(FAST[-1:])
    eventually(lambda: slow.app.is_asked)
    slow.release()
    assert slow.client.recv(1000).startswith(b"HTTP/1.1 200")


def test_an_idle_connection_is_not_closed_while_the_rest_of_a_request_is_waited_for():
    with served(late, KEEP_ALIVE) as it:
        it.client.sendall(FAST)
        it.client.recv(1000)
        time.sleep(KEEP_ALIVE - BODY_WAIT_SECONDS / 2)
        it.client.sendall(FAST[:-1])
        time.sleep(2 * BODY_WAIT_SECONDS)
        it.client.sendall(FAST[-1:])
        assert it.client.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\r\n" * 40_000, HeadTooLong),
        (FAST[:-1].replace(b": 1", b": " + b"0" * 4400 + b"1"), HttpMalformed),
        (FAST.replace(b": 1", b": " + b"0" * 4400 + b"1"), HttpMalformed),
    ],
    ids=["nothing", "a length of many digits", "and all of it"],
)
def test_what_is_odd_is_answered(slow, sent, error):
    slow.client.sendall(sent)
    eventually(lambda: slow.app.is_asked)
    slow.release()
    # The application here says 400 whatever it is that was refused.
    assert statuses(read(slow.client)) == [400]
    assert type(slow.app.refused) is error


def test_the_time_until_the_rest_comes_counts(slow):
    before = time.perf_counter()
    slow.client.sendall(FAST[:-1])
    time.sleep(BODY_WAIT_SECONDS / 2)
    slow.client.sendall(FAST[-1:])
    slow.client.recv(1000)
    (began, came) = MARKS.pop()
    assert before < began < came - BODY_WAIT_SECONDS / 4


def test_a_slow_request_read_with_a_fast_one_is_not_cut_off_as_idle():
    with served(late, KEEP_ALIVE) as it:
        it.client.sendall(FAST + ASKED % 1 + FAST)
        said = read(it.client)  # Now it is idle, and closed for that.
    assert statuses(said) == [200, 200, 200]
    assert b"late" in said


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"GET "])
@pytest.mark.parametrize("first", [FAST, ASKED % 1], ids=["fast", "slow"])
def test_an_idle_connection_is_closed_whatever_comes_that_is_no_request(first, rest):
    with served(late, KEEP_ALIVE) as it:
        it.client.sendall(first)
        assert it.client.recv(1000)
        it.client.sendall(rest)
        read(it.client)


def test_a_request_is_answered_though_the_head_of_the_next_does_not_come_on(slow):
    slow.client.sendall(ASKED % 1 + b"GET /2")
    eventually(lambda: slow.app.is_asked)
    for _ in range(3):
        slow.do(slow.server.on_tick(0))
    slow.release()
    assert slow.client.recv(1000).startswith(b"HTTP/1.1 200")
    for _ in range(2):
        slow.do(slow.server.on_tick(0))
    read(slow.client)


def test_answers_come_in_order_and_what_is_no_request_is_the_last(slow):
    slow.client.sendall(ASKED % 1 + ASKED % 2 + b"nonsense" + ASKED % 3)
    eventually(lambda: len(slow.connection.pipeline) == 2)
    slow.client.sendall(ASKED % 4)
    slow.release()
    assert statuses(read(slow.client)) == [200, 200, 400]


def test_nothing_is_read_while_requests_wait(slow):
    slow.client.sendall(ASKED % 0 + ASKED % 1)
    eventually(lambda: slow.app.is_asked and slow.connection.pipeline)
    assert slow.connection.flow.read_paused
    slow.client.sendall(b"".join(ASKED % number for number in range(2, MAX_PIPELINED)))
    slow.release()
    last = FAST.replace(b"/fast", b"/last").replace(b"content", b"connection: close\r\ncontent")
    slow.client.sendall(last)
    said = read(slow.client)
    assert statuses(said) == [200] * (MAX_PIPELINED + 1)
    assert re.findall(rb"\n/(\d+)", said) == [b"%d" % number for number in range(MAX_PIPELINED)]


def test_so_many_requests_may_wait_and_who_sends_more_hears_where_to_go_on(slow):
    slow.client.sendall(b"".join(ASKED % number for number in range(3 * MAX_PIPELINED)))
    eventually(lambda: len(slow.connection.pipeline) == MAX_PIPELINED)
    assert slow.connection.awaited is None
    slow.release()
    said = read(slow.client)
    assert statuses(said) == [200] * (1 + MAX_PIPELINED)
    assert said.count(b"connection: close") == 1
    assert said.rpartition(b"connection: close")[2].endswith(b"/%d" % MAX_PIPELINED)
