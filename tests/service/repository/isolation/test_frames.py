"""Frames between the serving process and a process of an isolated model."""

import socket

import numpy as np
import orjson
import pytest

from gatewave.service.repository.isolation.frames import LENGTHS, FrameError, Frames


@pytest.fixture
def connected():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Frames(ours, 1 << 16), theirs


def tensor(**changed):
    return {"name": "x", "datatype": "FP32", "shape": [2], "size": 8} | changed


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"junk", 0),
        (b"[]", 0),
        (b'{"tensors": 1}', 0),
        ({"tensors": [1]}, 0),
        ({"tensors": [tensor()]}, 4),
        ({"tensors": [tensor(size=4)]}, 4),
        ({"tensors": [tensor(shape=[-2])]}, 8),
        ({"tensors": [tensor(shape=[2**40, 2**40])]}, 8),
        ({"tensors": [tensor(datatype="FP33")]}, 8),
        ({"tensors": [tensor(datatype="BYTES")]}, 8),
        ({"tensors": [tensor(shape=[True])]}, 8),
        ({}, 1 << 20),
    ],
)
def test_invalid_frames_are_refused(connected, header, size):
    frames, other = connected
    text = header if isinstance(header, bytes) else orjson.dumps(header)
    other.sendall(LENGTHS.pack(len(text), size) + text + b"\xff" * min(size, 64))
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(FrameError):
        frames.receive()


def test_frames_are_received_as_sent(connected):
    frames, other = connected
    sent = {
        "s": np.array([[b"", b"\0\xff"], [b"abc", "é".encode()]], np.object_),
        "f": np.arange(6, dtype=np.float64).reshape(2, 3)[:, ::2],
        "e": np.empty((0, 3), np.int8),
        "z": np.array(7, np.int64),
    }
    Frames(other, 0).send({"run": 1}, sent)
    header, got = frames.receive()
    assert header == {"run": 1}
    for name, array in sent.items():
        assert got[name].dtype == array.dtype
        assert np.array_equal(got[name], array)
