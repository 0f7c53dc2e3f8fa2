"""One connection: its order of answers, its timers and its limits."""

import asyncio
import contextlib
import re
import socket
import time
from types import SimpleNamespace

import pytest
from calls import loop_in_a_thread
from waiting import eventually

from gatewave.service.errors import HeadTooLong, HttpMalformed
from gatewave.service.http.configuration import configuration
from gatewave.service.http.connection import body_buffer
from gatewave.service.http.connection.flow_control import MAX_PIPELINED
from gatewave.service.http.connection.malformed import REFUSED
from gatewave.service.http.server import Server

ASKED = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
FAST = b"POST /fast HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1"
KEEP_ALIVE = 0.2


class Slow:
    """Application that answers when it is released, and awaits a disconnect until then."""

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
    """Serve ``app`` on a port of its own; yield both sides of one connection to it."""
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
    """Return all bytes until the connection ends, be it with a reset."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            said += piece
    return said


def statuses(said):
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", said)]


@pytest.mark.parametrize("cut", [30, -1], ids=["head", "body"])
def test_request_in_two_pieces_takes_the_fast_path(slow, cut):
    slow.client.sendall(FAST[:cut])
    eventually(lambda: slow.connection.scope is not None)
    slow.client.sendall(FAST[cut:])
    assert slow.client.recv(1000).startswith(b"HTTP/1.1 200")
    assert not slow.app.is_asked


def test_application_answers_a_request_with_a_late_body(slow):
    slow.client.sendall(FAST[:-1])
    eventually(lambda: slow.connection.cycle is not None)  # After `BODY_WAIT_SECONDS`.
    slow.client.sendall(FAST[-1:])
    eventually(lambda: slow.app.is_asked)
    slow.release()
    assert slow.client.recv(1000).startswith(b"HTTP/1.1 200")


def test_idle_timer_stops_while_a_body_is_awaited():
    with served(late) as it:
        it.client.sendall(FAST)
        it.client.recv(1000)
        timer = it.connection.timeout_keep_alive_task
        assert not timer.cancelled()
        it.client.sendall(FAST[:-1])
        eventually(timer.cancelled)
        eventually(lambda: it.connection.cycle is not None)  # The application waits too.
        assert it.connection.timeout_keep_alive_task is None
        it.client.sendall(FAST[-1:])
        assert it.client.recv(1000).startswith(b"HTTP/1.1 200")


def test_answered_connection_stays_open(slow):
    for _ in range(2):
        slow.client.sendall(FAST)
        assert slow.client.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(3):  # As often as it takes to close a connection with half a head.
            slow.do(slow.server.on_tick(0))


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\r\n" * 40_000, HeadTooLong),
        (FAST[:-1].replace(b": 1", b": " + b"0" * 4400 + b"1"), HttpMalformed),
        (FAST.replace(b": 1", b": " + b"0" * 4400 + b"1"), HttpMalformed),
    ],
    ids=["nothing", "a length of many digits", "and all of it"],
)
def test_odd_requests_are_answered(slow, sent, error):
    slow.client.sendall(sent)
    eventually(lambda: slow.app.is_asked)
    slow.release()
    # The application here says 400 whatever it is that was refused.
    assert statuses(read(slow.client)) == [400]
    assert type(slow.app.refused) is error


def test_time_until_the_rest_arrives_counts(slow, monkeypatch):
    monkeypatch.setattr(body_buffer, "BODY_WAIT_SECONDS", 60)
    before = time.perf_counter()
    slow.client.sendall(FAST[:-1])
    eventually(lambda: slow.connection.awaited is not slow.connection.transport)
    between = time.perf_counter()
    slow.client.sendall(FAST[-1:])
    slow.client.recv(1000)
    (head_read, request_read) = MARKS.pop()
    assert before < head_read < between < request_read


def test_queued_request_of_a_closing_connection_is_dropped(slow):
    async def receive_and_abort():
        slow.connection.data_received(FAST + FAST)  # One answered, one queued.
        slow.connection.transport.abort()

    slow.do(receive_and_abort())
    read(slow.client)
    eventually(lambda: not slow.server.server_state.connections)
    assert not slow.app.is_asked
    assert slow.connection.awaited is None


def test_requests_after_a_dropped_one_are_not_parsed(slow):
    async def abort_and_receive():
        slow.connection.data_received(FAST)
        slow.connection.transport.abort()
        slow.connection.data_received(FAST + ASKED % 1)

    slow.do(abort_and_receive())
    read(slow.client)
    assert slow.connection.cycle is None
    assert slow.connection.awaited is None


def test_slow_request_after_a_fast_one_is_not_idle():
    with served(late, KEEP_ALIVE) as it:
        it.client.sendall(FAST + ASKED % 1 + FAST)
        said = read(it.client)  # Now it is idle, and closed for that.
    assert statuses(said) == [200, 200, 200]
    assert b"late" in said


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"GET "])
@pytest.mark.parametrize("first", [FAST, ASKED % 1], ids=["fast", "slow"])
def test_bytes_that_are_no_request_keep_no_connection_open(first, rest):
    with served(late, KEEP_ALIVE) as it:
        it.client.sendall(first)
        assert it.client.recv(1000)
        it.client.sendall(rest)
        read(it.client)


def test_incomplete_next_head_does_not_end_an_answer(slow):
    slow.client.sendall(ASKED % 1 + b"GET /2")
    eventually(lambda: slow.app.is_asked)
    for _ in range(3):
        slow.do(slow.server.on_tick(0))
    slow.release()
    assert slow.client.recv(1000).startswith(b"HTTP/1.1 200")
    for _ in range(2):
        slow.do(slow.server.on_tick(0))
    read(slow.client)


def test_answers_keep_order_and_a_malformed_request_is_last(slow):
    slow.client.sendall(ASKED % 1 + ASKED % 2 + b"nonsense" + ASKED % 3)
    eventually(lambda: len(slow.connection.pipeline) == 2)
    slow.client.sendall(ASKED % 4)
    slow.release()
    assert statuses(read(slow.client)) == [200, 200, 400]


def test_reading_stops_while_requests_wait(slow):
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


def test_pipeline_is_limited_and_its_last_answer_closes(slow):
    slow.client.sendall(b"".join(ASKED % number for number in range(3 * MAX_PIPELINED)))
    eventually(lambda: len(slow.connection.pipeline) == MAX_PIPELINED)
    assert slow.connection.awaited is None
    slow.release()
    said = read(slow.client)
    assert statuses(said) == [200] * (1 + MAX_PIPELINED)
    assert said.count(b"connection: close") == 1
    assert said.rpartition(b"connection: close")[2].endswith(b"/%d" % MAX_PIPELINED)
