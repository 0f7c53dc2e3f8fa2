"""POST /activate of a real server, against an echo and a plain FastAPI route, on one connection.

    python -m benchmarks.http

The echo returns a body of the same size and computes nothing: the limit of uvicorn. The plain route
is what one writes first: pydantic lists in, NumPy, lists out.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import orjson
import safetensors.numpy

from benchmarks.timing import machine, medians

PEERS = "benchmarks.peers"
BINARY = "application/vnd.safetensors"
JSON = "application/json"


def main() -> None:
    print(f"One connection, the client included, on {machine()}. Microseconds a request; in")
    print("brackets the share of the echo's speed.\n")
    print("| request | Gatewave | plain FastAPI | echo |")
    print("|---|---|---|---|")
    with contextlib.ExitStack() as running:
        command = [sys.executable, "-c", "from gatewave.cli import main; main()", "serve"]
        ours = running.enter_context(_serving([*command, "--port", "{port}"]))
        uvicorn = [sys.executable, "-m", "uvicorn", "--log-level", "error", "--port", "{port}"]
        plain = running.enter_context(_serving([*uvicorn, f"{PEERS}:plain"]))
        echo = running.enter_context(_serving([*uvicorn, f"{PEERS}:echo"]))
        for count in (64, 4096):
            _print(f"JSON, 2 x {count} floats", _json(count), JSON, [ours, plain, echo])
        _print("safetensors, 2 x 1 Mi floats", _binary(1 << 20), BINARY, [ours, None, echo])


def _print(title: str, body: bytes, kind: str, ports: list[int | None]) -> None:
    calls = {}
    for name, port in zip(("ours", "plain", "echo"), ports, strict=True):
        if port is not None:
            calls[name] = _client(port, body, kind)
    seconds = medians(calls, turns=21)
    cells = [
        f"{seconds[n] * 1e6:.0f} ({seconds['echo'] / seconds[n]:.2f})" if n in seconds else "–"
        for n in ("ours", "plain", "echo")
    ]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def _json(count: int) -> bytes:
    a, b = np.random.default_rng(0).normal(size=(2, count)).astype(np.float32).tolist()
    return orjson.dumps({"activation": "swiglu", "inputs": {"a": a, "b": b}})


def _binary(count: int) -> bytes:
    a, b = np.random.default_rng(0).normal(size=(2, count)).astype(np.float32)
    return safetensors.numpy.save({"a": a, "b": b}, {"activation": "swiglu"})


def _client(port: int, body: bytes, kind: str) -> Callable[[], object]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def request() -> bytes:
        connection.request("POST", "/activate", body, {"Content-Type": kind})
        response = connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(answer)
        return answer

    return request


@contextlib.contextmanager
def _serving(command: list[str]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "GATEWAVE_ACCESS_LOG": "false"}
    process = subprocess.Popen(
        [part.format(port=port) for part in command],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on {port}")


if __name__ == "__main__":
    main()
