"""Benchmark of the service under load from wrk, with an echo and a hand-written server.

    python -m benchmarks.http [--seconds 3] [--turns 5] [--cases ABC] [--kernels function]
        [--peer NAME=COMMAND ...]

The cases are SwiGLU of two inputs:

- A: JSON, 64 floats each, 32 connections;
- B: JSON, 4096 floats each, 32 connections;
- C: binary, 1 Mi float32 each, 4 connections;
- D: binary, 64 floats each, 32 connections;
- E: as A, with the header Accept-Encoding.

The echo is a bare uvicorn application that drops the body and returns as many bytes as the answer
has: the limit of the stack. The other servers are a bare uvicorn application that only computes
with ONNX Runtime, and a plain FastAPI route. The servers run in turns, and each turn gives ratios:
the share of the echo, and the ratio to the bare application. The medians are printed, with the
smallest and the largest. ``--kernels`` runs the service a second time with this value of
``GATEWAVE_KERNELS``, which shows the gain from kernels.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import safetensors.numpy

from benchmarks.timing import machine

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"
OCTETS = "application/octet-stream"
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Load:
    """Request that is sent repeatedly."""

    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Case:
    """Request in the form of each server, and the number of connections."""

    name: str
    connections: int
    loads: dict[str, Load]


@dataclass
class Server:
    """Running server and its measurements."""

    name: str
    pid: int
    port: int
    start_seconds: float
    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def peak_megabytes(self) -> float:
        """Return the peak memory of the server and its children."""
        pids = [self.pid, *map(int, _children(self.pid))]
        return sum(_peak(pid) for pid in pids) / 1024


def main() -> None:
    options = _options()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    print(
        f"{machine()}; {options.turns} turns of {options.seconds} s, {options.workers} worker(s)\n"
    )
    print(
        "| case | server | requests/s | share of echo | ratio to bare ASGI | p50 ms | p99/p50 "
        "| peak MB | start s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.cases:
        _measure(CASES[name](), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=3, help="how long each server has its turn")
    parser.add_argument("--turns", type=int, default=5, help="how many turns")
    parser.add_argument("--cases", default="ABC", help="which cases")
    parser.add_argument("--workers", type=int, default=1, help="processes of ours")
    parser.add_argument("--kernels", metavar="WHICH", help="another of ours: GATEWAVE_KERNELS")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another server that takes the plain route's requests; {port} stands for its port",
    )
    return parser.parse_args()


def _measure(case: Case, options: argparse.Namespace) -> None:
    ours = [sys.executable, "-c", "from gatewave.cli.main import main; main()", "serve"]
    uvicorn = [sys.executable, "-m", "uvicorn", "--log-level", "error", "--no-access-log"]
    given = [peer.partition("=") for peer in options.peer]
    peers = {name: command.split() for name, _, command in given}
    other = f"gatewave, kernels={options.kernels}"
    others = {other: [*ours, "--port", "{port}"]} if options.kernels else {}
    settings = {other: {"GATEWAVE_KERNELS": str(options.kernels)}}
    commands = {
        "echo": [*uvicorn, "--port", "{port}", "benchmarks.peers.echo:app"],
        "gatewave": [*ours, "--port", "{port}"],
        **others,
        "bare ASGI": [*uvicorn, "--port", "{port}", "benchmarks.peers.bare:app"],
        "plain FastAPI": [*uvicorn, "--port", "{port}", "benchmarks.peers.plain:app"],
        **peers,
    }
    with contextlib.ExitStack() as running:
        servers = {
            name: running.enter_context(
                _serving(name, command, options.workers, settings.get(name, {}))
            )
            for name, command in commands.items()
        }
        loads = {
            **case.loads,
            **dict.fromkeys(others, case.loads["gatewave"]),
            **dict.fromkeys(peers, case.loads["plain FastAPI"]),
        }
        measured = {load: servers.get(load) or _again(servers["gatewave"]) for load in loads}
        for _ in range(options.turns):
            for load, server in measured.items():
                _turn(case, loads[load], server, options.seconds)
        for load, server in measured.items():
            _print(case, load, server, measured)


def _again(server: Server) -> Server:
    """The same server with its other protocol, measured separately."""
    return Server(server.name, server.pid, server.port, server.start_seconds)


def _turn(case: Case, load: Load, server: Server, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = _script(load, Path(folder))
        url = f"http://127.0.0.1:{server.port}{load.path}"
        command = [
            "wrk",
            "-t1",
            f"-c{case.connections}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            script,
        ]
        done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise RuntimeError(f"{server.name}: {done.stdout}")
    server.rates.append(float(_found(r"Requests/sec:\s+([\d.]+)", done.stdout)[0]))
    for percentile, samples in (("50", server.p50), ("99", server.p99)):
        number, unit = _found(rf"{percentile}%\s+([\d.]+)(us|ms|s)", done.stdout)
        samples.append(float(number) * UNITS[unit])


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said: {text}")
    return match.groups()


def _script(load: Load, folder: Path) -> str:
    """Return the script that makes wrk send ``load``."""
    (folder / "body").write_bytes(load.body)
    lines = [
        f'local file = io.open("{folder}/body", "rb")',
        'wrk.method = "POST"',
        'wrk.body = file:read("*a")',
        *(f"wrk.headers[{json.dumps(n)}] = {json.dumps(v)}" for n, v in load.headers.items()),
    ]
    script = folder / "load.lua"
    script.write_text("\n".join(lines))
    return str(script)


def _print(case: Case, load: str, server: Server, measured: Mapping[str, Server]) -> None:
    shares, to_bare = (_ratios(server, measured[peer]) for peer in ("echo", "bare ASGI"))
    tails = [p99 / p50 for p99, p50 in zip(server.p99, server.p50, strict=True)]
    cells = [
        case.name,
        load,
        f"{statistics.median(server.rates):,.0f}",
        f"{statistics.median(shares):.2f}",
        f"{statistics.median(to_bare):.2f} ({min(to_bare):.2f}–{max(to_bare):.2f})",
        f"{statistics.median(server.p50) * 1e3:.2f}",
        f"{statistics.median(tails):.1f}",
        f"{server.peak_megabytes():.0f}",
        f"{server.start_seconds:.2f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def _ratios(server: Server, peer: Server) -> list[float]:
    """Return the requests per second of ``server`` as shares of ``peer``'s, for each turn."""
    return [ours / theirs for ours, theirs in zip(server.rates, peer.rates, strict=True)]


def _json_case(name: str, count: int, **more: str) -> Case:
    a, b = np.random.default_rng(0).normal(size=(2, count)).astype(np.float32).tolist()
    body = orjson.dumps({"activation": "swiglu", "inputs": {"a": a, "b": b}})
    tensors = [
        {"name": n, "datatype": "FP32", "shape": [count], "data": v}
        for n, v in (("a", a), ("b", b))
    ]
    headers = {"Content-Type": JSON, **more}
    ours = Load("/activate", body, headers)
    loads = {
        "echo": Load(f"/{len(body) // 2}", body, headers),
        "gatewave": ours,
        "gatewave /v2": Load("/v2/models/swiglu/infer", orjson.dumps({"inputs": tensors}), headers),
        "bare ASGI": ours,
        "plain FastAPI": ours,
    }
    return Case(name, 32, loads)


def _binary_case(name: str, count: int, connections: int = 4) -> Case:
    a, b = np.random.default_rng(0).normal(size=(2, count)).astype(np.float32)
    body = safetensors.numpy.save({"a": a, "b": b}, {"activation": "swiglu"})
    size = {"binary_data_size": a.nbytes}
    tensors = [
        {"name": n, "datatype": "FP32", "shape": [count], "parameters": size} for n in ("a", "b")
    ]
    head = orjson.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": OCTETS, "Inference-Header-Content-Length": str(len(head))}
    whole = head + a.tobytes() + b.tobytes()
    raw = Load("/activate/raw", body, {"Content-Type": OCTETS})
    loads = {
        "echo": Load(f"/{a.nbytes}", body, {"Content-Type": OCTETS}),
        "gatewave": Load("/activate", body, {"Content-Type": SAFETENSORS}),
        "gatewave /v2": Load("/v2/models/swiglu/infer", whole, headers),
        "bare ASGI": raw,
        "plain FastAPI": raw,
    }
    return Case(name, connections, loads)


CODINGS = {"Accept-Encoding": "gzip, deflate"}
"""The header that requests and httpx send with each request."""

CASES = {
    "A": lambda: _json_case("A: JSON, 2 x 64", 64),
    "B": lambda: _json_case("B: JSON, 2 x 4096", 4096),
    "C": lambda: _binary_case("C: binary, 2 x 1 Mi", 1 << 20),
    "D": lambda: _binary_case("D: binary, 2 x 64", 64, 32),
    "E": lambda: _json_case("E: JSON, 2 x 64, codings accepted", 64, **CODINGS),
}


@contextlib.contextmanager
def _serving(
    name: str, command: list[str], workers: int, settings: dict[str, str]
) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "GATEWAVE_ACCESS_LOG": "false",
        "GATEWAVE_WORKERS": str(workers),
        **settings,
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [part.format(port=port) for part in command],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(process, f"http://127.0.0.1:{port}/")
        yield Server(name, process.pid, port, time.perf_counter() - began)
    finally:
        # With all its child processes: some servers do not end theirs.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait for the first answer, with any status."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url):  # noqa: S310 - loopback
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.005)
    raise RuntimeError(f"{url}: the server ended with {process.returncode}")


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _peak(pid: int) -> int:
    """Return the peak memory of a process, in kilobytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
