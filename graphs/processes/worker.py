"""Worker: the process that answers the requests of a `Client`, in any Python that has NumPy.

Started as ``python -P worker.py HANDLERS ARGUMENT...``. HANDLERS is the path of a Python file with
a function ``start(*arguments)``. It imports what it needs, and returns a description (for
`Client.about`) and the handlers of requests, by method. The worker sends the description, or the
error of `start`, before the first request.

A request is ``{"method": ..., "params": {...}}`` with values. The method's handler is called as
``handler(values, **params)``, and returns ``(result, values)``. The response is ``{"result": ...}``
with these values, or ``{"error": {"type": ..., "message": ...}}`` for an exception. The worker ends
when its input ends.

This file imports nothing of this package: the environment of a foreign runtime does not have it.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any

Handler = Callable[..., tuple[Any, Mapping[str, Any]]]


def main(handlers: str, *arguments: str) -> None:
    """Start the handlers of the file ``handlers``, and serve them."""
    messages = _module("gatewave_messages", Path(__file__).with_name("messages.py"))
    requests, responses = _streams()
    _limit_memory()
    try:
        about, by_method = _module("gatewave_handlers", Path(handlers)).start(*arguments)
    except Exception as error:  # noqa: BLE001 - a runtime that cannot be imported is an answer
        messages.send(responses, _error(error), {})
        return
    messages.send(responses, {"result": about}, {})
    serve(messages, requests, responses, by_method)


def serve(
    messages: ModuleType, requests: IO[bytes], responses: IO[bytes], handlers: Mapping[str, Handler]
) -> None:
    """Answer requests until ``requests`` ends."""
    while True:
        try:
            # The client is trusted: its models and inputs may be of any size.
            request, values = messages.receive(requests, max_bytes=None)
        except EOFError:
            return
        try:
            result, values = handlers[request["method"]](values, **request["params"])
            _check_size(messages, values)
            messages.send(responses, {"result": result}, values)
        except BrokenPipeError:  # the client is gone
            return
        except Exception as error:  # noqa: BLE001 - models and runtimes raise anything
            messages.send(responses, _error(error), {})


def _check_size(messages: ModuleType, values: Mapping[str, Any]) -> None:
    size = sum(messages.size_of(value) for value in values.values())
    if size > messages.MAX_BYTES:
        raise MemoryError(
            f"{size:,} bytes of values were asked for, and {messages.MAX_BYTES:,} are sent"
        )


def _error(error: Exception) -> dict[str, Any]:
    return {"error": {"type": type(error).__name__, "message": str(error)}}


def _streams() -> tuple[IO[bytes], IO[bytes]]:
    """Return the streams of requests and responses, and hide them from libraries.

    ONNX Runtime, TensorFlow and TVM print to the standard output, which now goes to the standard
    error. A child process of a library that reads the standard input would take requests away.
    """
    requests, responses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, responses


def _module(name: str, path: Path) -> ModuleType:
    """Import the file ``path``; its folder is not searched by the imports of others.

    Folders of workers have files called ``torch.py`` and ``numpy.py``.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _limit_memory() -> None:
    """Limit memory to that of the machine: allocations fail before the system ends processes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # The hard limit is kept: raising it needs a privilege.
    resource.setrlimit(resource.RLIMIT_DATA, (soft_limit(memory, hard), hard))


def soft_limit(memory: int, hard: int) -> int:
    """Return ``memory``, or the ``hard`` limit if that is lower."""
    return memory if hard == resource.RLIM_INFINITY else min(memory, hard)


if __name__ == "__main__":
    main(*sys.argv[1:])
