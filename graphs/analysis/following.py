"""The process that follows the values of small tensors through a model, for `infer`.

A model can make of a small tensor one of 2⁴⁰ elements, and ONNX's inference, out of memory, does
not always raise: it may crash. So it runs here, with little memory, and whoever asked only sees
that no answer came.

This file is run as a script, and imports nothing of ours: to start it is to import ``onnx``.
A message is its length, in 8 bytes, and its bytes: a model goes in, and two come out: what went
wrong, or nothing, and the model with what was found.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from pathlib import Path
from typing import IO

LENGTH = struct.Struct("<Q")

STATM = Path("/proc/self/statm")

MAX_MEMORY = 2**30
"""Limit on the memory of inference in bytes; its result is far smaller."""


def send(stream: IO[bytes], content: bytes) -> None:
    stream.write(LENGTH.pack(len(content)) + content)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """The next message.

    Raises:
        EOFError: The other side is gone.
    """
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise EOFError("the other side ended in the middle of a message")
    return content


def main() -> None:
    import onnx  # noqa: PLC0415 - who imports this file to talk to the process needs it no more
    import onnx.shape_inference  # noqa: PLC0415

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    _limit_memory()
    while True:
        try:
            content = receive(sys.stdin.buffer)
        except EOFError:
            return
        model = onnx.ModelProto.FromString(content)
        wrong = ""
        try:
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except MemoryError:
            raise  # what it leaves is not to be relied on
        except Exception as error:  # noqa: BLE001 - it raises whatever an operator's rule does
            wrong = f"failed: {error}"
        send(answers, wrong.encode())
        send(answers, model.SerializeToString())


def _limit_memory() -> None:
    if not STATM.exists():  # only Linux says what a process has
        return
    pages = int(STATM.read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MAX_MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
