"""The protocol of clients and workers, for the workers of Python and of Node."""

import io
import os
import resource
import shutil
import struct
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from gatewave.graphs.processes import client as clients
from gatewave.graphs.processes import messages, worker
from gatewave.graphs.processes.client import Client, node_worker, own_variables, python_worker
from gatewave.graphs.processes.errors import Lost, NotStarted, Refused
from gatewave.graphs.processes.messages import InvalidMessageError

SECONDS = 60.0

PYTHON = """
import os, sys, tempfile, time

def start(*arguments):
    os.write(1, b"a library's greeting\\n")
    print("another one")
    about = {"arguments": list(arguments), "folder": tempfile.gettempdir()}
    return about, {"echo": echo, "fail": fail, "crash": crash, "hang": hang}

def echo(values, **params):
    print("printed")
    return params, values

def fail(values, *, message):
    raise ValueError(message)

def crash(values):
    print("last words", file=sys.stderr, flush=True)
    os.abort()

def hang(values):
    tempfile.mkstemp()
    os.read(os.pipe()[0], 1)
"""
NODE = """
import { writeSync } from "node:fs";
import { tmpdir } from "node:os";

export function start(...parameters) {
  writeSync(1, "a library's greeting\\n");
  console.log("another one");
  const handlers = {
    echo(values, params) { console.log("printed"); return { result: params, values }; },
    fail(_, { message }) { const e = new Error(message); e.name = "ValueError"; throw e; },
    crash() { console.error("last words"); process.abort(); },
    hang() { for (;;); },
  };
  return { about: { arguments: parameters, folder: tmpdir() }, handlers };
}
"""


@pytest.fixture(scope="module", params=["python", "node"])
def command(request, tmp_path_factory):
    """Return a function from arguments to the command of a worker with the handlers above."""
    if request.param == "node" and shutil.which("node") is None:
        pytest.skip("Node is not installed")
    text, name = (PYTHON, "handlers.py") if request.param == "python" else (NODE, "handlers.mjs")
    handlers = tmp_path_factory.mktemp("handlers") / name
    handlers.write_text(text, encoding="utf-8")
    worker = python_worker if request.param == "python" else node_worker
    return lambda *arguments: worker(handlers, *arguments)


@pytest.fixture(scope="module")
def client(command):
    with Client(command("one", "ä b"), own_variables(), SECONDS) as client:
        yield client.start()


def test_a_launched_process_answers_once_it_has_started(command):
    with Client(command("one"), own_variables(), SECONDS) as client:
        client.launch()
        assert client.about == {}
        assert client.start().about["arguments"] == ["one"]
        assert client.ask("echo", {"n": 1})[0] == {"n": 1}
        started = client.about
        assert client.start().about is started


NUMERIC = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
    *("bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "int4", "uint4", "int2"),
]


def same(got, sent):
    if sent is None:
        return got is None
    if isinstance(sent, list):
        return len(got) == len(sent) and all(map(same, got, sent))
    if sent.dtype == object:
        return got.dtype == object and got.shape == sent.shape and got.tolist() == sent.tolist()
    return (got.dtype, got.shape, got.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())


@pytest.mark.parametrize("name", NUMERIC)
def test_arrays_of_each_element_type_come_back(client, name):
    dtype = getattr(ml_dtypes, name, None) or name
    sent = {
        str(shape): np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        for shape in [(), (0,), (5,), (2, 0, 3), (2, 3)]
    }
    _, values = client.ask("echo", values=sent)
    assert [*values] == [*sent]
    assert [shape for shape in sent if not same(values[shape], sent[shape])] == []


def test_values_of_each_form_come_back_in_order(client):
    sent = {
        "special": np.array([np.nan, -0.0, np.inf, 5e-324]),
        "strings": np.array([["ä", ""], ["\0", "😀"]], object),
        "empty": np.array([], object),
        "absent": None,
        "sequence": [np.arange(3), np.zeros((0, 2), np.float32), None],
        "nested": [[], [np.array(["a"], object), [np.float64([1])]]],
        "wörter": np.array(2**53 + 1),
        "large": np.arange(2**19, dtype=np.float32),
    }
    params = {"text": "ä", "list": [1, None, {"a": True}]}
    result, values = client.ask("echo", params, sent)
    assert result == params
    assert [*values] == [*sent]
    assert [name for name in sent if not same(values[name], sent[name])] == []


def test_bytes_are_sent_as_text(client):
    sent = {
        "objects": np.array([[b"ab", "ä"], ["😀".encode(), b""]], object),
        "bytes": np.array([b"ab", "ä".encode()]),
        "text": np.array(["ab", "ä"]),
        "scalar": np.bytes_(b"ab"),
    }
    _, values = client.ask("echo", values=sent)
    assert {name: array.tolist() for name, array in values.items()} == {
        "objects": [["ab", "ä"], ["😀", ""]],
        "bytes": ["ab", "ä"],
        "text": ["ab", "ä"],
        "scalar": "ab",
    }


def test_memory_order_and_byte_order_are_those_of_the_message(client):
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    sent = {"swapped": plain.astype(">f4"), "transposed": plain.T, "strided": plain[:, ::2]}
    _, values = client.ask("echo", values=sent)
    assert {name: array.tolist() for name, array in values.items()} == {
        name: array.tolist() for name, array in sent.items()
    }


def test_a_worker_describes_itself(client):
    assert client.about["arguments"] == ["one", "ä b"]


def test_an_error_is_refused_with_its_text_and_the_worker_goes_on(client):
    with pytest.raises(Refused, match=r"^ValueError: no room$") as refused:
        client.ask("fail", {"message": "src/core.cpp:84:\nno room"})
    assert refused.value.message == "src/core.cpp:84:\nno room"
    assert not isinstance(refused.value, Lost)
    with pytest.raises(Refused):
        client.ask("unknown")
    assert client.ask("echo", {"a": 1}) == ({"a": 1}, {})


def test_after_a_crash_another_process_starts(command):
    with Client(command(), own_variables(), SECONDS) as client:
        with pytest.raises(Lost, match=r"^testing crashed the process, SIGABRT: \S"):
            client.start().ask("crash", task="testing")
        with pytest.raises(Lost, match="the process has ended: it crashed the process, SIGABRT"):
            client.ask("echo")
        assert client.start().ask("echo", {"a": 1}) == ({"a": 1}, {})


def test_a_request_that_takes_too_long_ends_the_worker(command):
    with Client(command(), own_variables(), 1.0) as client:
        folder = Path(client.start().about["folder"])
        assert folder.is_dir()
        with pytest.raises(Lost, match=r"^testing took more than 1 seconds$") as lost:
            client.ask("hang", task="testing")
        assert lost.value.late
        assert not folder.exists()


def test_handlers_that_do_not_start_are_refused(tmp_path):
    handlers = tmp_path / "handlers.py"
    handlers.write_text("import a_module_that_is_missing")
    with (
        Client(python_worker(handlers), own_variables(), SECONDS) as client,
        pytest.raises(Refused, match="ModuleNotFoundError: No module named 'a_module") as refused,
    ):
        client.start()
    assert not isinstance(refused.value, Lost)


def test_a_program_that_is_missing_is_lost_and_can_be_tried_again(tmp_path):
    handlers = tmp_path / "handlers.py"
    handlers.write_text(PYTHON)
    python = tmp_path / "python"
    python.symlink_to(tmp_path / "removed")
    with Client(python_worker(handlers, python=python), own_variables(), SECONDS) as client:
        for start in (client.launch, client.start):
            with pytest.raises(NotStarted, match=r"^cannot be started: .*No such file.*/python'$"):
                start()
        with pytest.raises(Lost, match="the process has ended"):
            client.ask("echo")
        python.unlink()
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        assert client.start().ask("echo", {"a": 1}) == ({"a": 1}, {})


MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

LIMITS = """
import resource
def start(): return {"limits": resource.getrlimit(resource.RLIMIT_DATA)}, {}
"""


def limits(tmp_path, *prefix):
    """Return the limits of memory, soft and hard, of a worker that is started by ``prefix``."""
    handlers = tmp_path / "handlers.py"
    handlers.write_text(LIMITS)
    with Client([*prefix, *python_worker(handlers)], own_variables(), SECONDS) as client:
        return client.start().about["limits"]


def test_memory_is_limited_and_the_hard_limit_stays(tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    assert limits(tmp_path) == [worker.soft_limit(MEMORY, hard), hard]


def test_a_worker_starts_under_a_lower_hard_limit(tmp_path):
    lower = MEMORY // 2 // 1024
    found = limits(tmp_path, "sh", "-c", f'ulimit -d {lower}; exec "$@"', "sh")
    assert found == [lower * 1024, lower * 1024]


@pytest.mark.parametrize(
    ("memory", "hard", "soft"), [(8, resource.RLIM_INFINITY, 8), (8, 9, 8), (8, 8, 8), (8, 7, 7)]
)
def test_thesoft_limit_is_not_over_the_hard_one(memory, hard, soft):
    assert worker.soft_limit(memory, hard) == soft


def test_a_worker_finds_no_module_beside_itself_or_its_handlers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    handlers = tmp_path / "handlers.py"
    handlers.write_text(
        "import sys, numpy\ndef start(): return {'path': sys.path, 'numpy': numpy.__file__}, {}"
    )
    with Client(python_worker(handlers), own_variables(), SECONDS) as client:
        about = client.start().about
    beside = {str(tmp_path), str(clients.WORKER.parent), str(clients.WORKER.resolve().parent), ""}
    assert beside.isdisjoint(about["path"])
    assert about["numpy"] == np.__file__


def test_telemetry_is_off_and_our_paths_stay_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    foreign = clients.variables_of(tmp_path / "python")
    for variables in (foreign, clients.variables_of(Path(sys.executable))):
        assert variables["ORT_DISABLE_TELEMETRY"] == "1"
    assert foreign.keys().isdisjoint(clients.OF_OUR_PYTHON)


def packed(header, content=b""):
    return struct.pack("<Q", len(header)) + header + content


def array(dtype, shape):
    return packed(b'{"result": {}, "values": {"x": {"dtype": "%s", "shape": %s}}}' % (dtype, shape))


RESULT = packed(b'{"result": {}, "values": {}}')

INVALID = {
    "text": b"Segmentation fault\n",
    "a huge header": struct.pack("<Q", 2**62),
    "no JSON": packed(b"{"),
    "no object": packed(b"[]"),
    "no values": packed(b'{"result": {}}'),
    "values that are a list": packed(b'{"result": {}, "values": []}'),
    "deep JSON": packed(b'{"result": {}, "values": {"x": ' + b"[" * 200_000),
    "a tensor of 2**40 elements": array(b"float32", b"[1099511627776]"),
    "a negative shape": array(b"float32", b"[-1]"),
    "a shape of fractions": array(b"float32", b"[1.5]"),
    "an unknown element type": array(b"float31", b"[1]"),
    "an element type of objects": array(b"object", b"[1]"),
    "strings of another shape": packed(
        b'{"result": {}, "values": {"x": {"dtype": "string", "shape": [3], "strings": ["a"]}}}'
    ),
}
NEITHER = {
    "neither a result nor an error": packed(b'{"values": {}}'),
    "a result that is a number": packed(b'{"result": 1, "values": {}}'),
    "an error without a message": packed(b'{"error": "no", "values": {}}'),
}
CUT = {
    "nothing": b"",
    "half a length": b"\1\0\0",
    "half a header": RESULT[:-3],
    "half an array": array(b"float32", b"[2]") + b"1234",
}


def writing(tmp_path, content):
    """Return a client of a program that writes ``content`` after a valid start, and goes on."""
    (tmp_path / "response").write_bytes(content)
    program = (
        "import sys; out = sys.stdout.buffer; out.write(bytes.fromhex(sys.argv[2])); out.flush();"
        "sys.stdin.buffer.read(1); out.write(open(sys.argv[1], 'rb').read()); out.flush();"
        "{'0': sys.exit, '1': sys.stdin.buffer.read}[sys.argv[3]]()"
    )
    goes_on = "0" if content in CUT.values() else "1"
    command = [sys.executable, "-c", program, str(tmp_path / "response"), RESULT.hex(), goes_on]
    return Client(command, os.environ, SECONDS)


@pytest.mark.parametrize("case", INVALID | NEITHER)
def test_a_response_that_is_no_message_ends_the_worker(tmp_path, case):
    with writing(tmp_path, (INVALID | NEITHER)[case]) as client:
        with pytest.raises(Lost, match=r"^testing got no valid response: "):
            client.start().ask("echo", task="testing")
        with pytest.raises(Lost, match="the process has ended"):
            client.ask("echo")


@pytest.mark.parametrize("case", CUT)
def test_a_response_that_ends_in_the_middle_is_a_crash(tmp_path, case):
    with (
        writing(tmp_path, CUT[case]) as client,
        pytest.raises(Lost, match=r"^testing crashed the process, exit status 0$"),
    ):
        client.start().ask("echo", task="testing")


@pytest.mark.parametrize("case", INVALID)
def test_invalid_bytes_are_rejected_before_memory_is_allocated(case):
    with pytest.raises(InvalidMessageError):
        messages.receive(io.BytesIO(INVALID[case]))


def test_arrays_over_the_limit_are_refused_by_both_sides():
    stream = io.BytesIO()
    messages.send(stream, {}, {"x": np.zeros(100, np.uint8)})
    with pytest.raises(InvalidMessageError, match="100 bytes, more than 99"):
        messages.receive(io.BytesIO(stream.getvalue()), max_bytes=99)
    assert messages.receive(io.BytesIO(stream.getvalue()), max_bytes=100)[1]["x"].nbytes == 100


@pytest.mark.parametrize("value", ["text", {"a": 1}, 3, [np.zeros(1), "text"]], ids=str)
def test_a_value_that_is_no_tensor_is_not_sent(value):
    stream = io.BytesIO()
    with pytest.raises(TypeError, match="no tensor"):
        messages.send(stream, {}, {"first": np.zeros(1), "x": value})
    assert stream.getvalue() == b""


@pytest.mark.parametrize("item", [3, 1.5, None, ["a"], bytearray(b"a")], ids=str)
def test_objects_that_are_no_text_are_not_sent(item):
    array = np.array(["text", None], object)
    array[1] = item
    stream = io.BytesIO()
    with pytest.raises(TypeError, match=f"{type(item).__name__}, and neither text nor bytes"):
        messages.send(stream, {}, {"x": array})
    assert stream.getvalue() == b""


def test_bytes_that_are_no_text_are_not_sent():
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="utf-8"):
        messages.send(stream, {}, {"x": np.array([b"\xff"], object)})
    assert stream.getvalue() == b""
