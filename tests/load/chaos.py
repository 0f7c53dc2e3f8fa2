"""Kill workers and end services under load, and check that only the allowed requests are lost.

``make chaos ROUNDS=10`` prints its observations, and ends with 1 if a promise is broken:

* A killed worker loses the requests on its own connections only. Other requests do not fail,
  connections are not refused, and another worker takes its place.
* A service that is told to end loses no request: every request that is sent is answered, and
  connections are not refused before the end.
"""

import argparse
import collections
import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from asked import WholeConnection
from processes import run, serving

CLIENTS = 16
WORKERS = 2
GRACE_SECONDS = 0.5
PATIENCE_SECONDS = 60
"""Longest duration of any step, before it counts as failed."""

LARGE = json.dumps({"activation": "sinc", "inputs": {"x": [0.5] * 400_000}}).encode()


@dataclass
class Loss:
    """Request that was sent but not answered."""

    port: int
    error: str
    answered_before: int = 0
    idle_seconds: float = 0


@dataclass
class Tally:
    """Results of the requests of all clients."""

    answered: int = 0
    refused: list[float] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Load:
    """Clients that send one request after the other over persistent connections."""

    def __init__(self, url, clients=CLIENTS):
        address = urllib.parse.urlsplit(url)
        self.host, self.port = address.hostname, address.port
        self.tally = Tally()
        self.over = threading.Event()
        self.progress = threading.Condition()
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def join(self):
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)

    def await_answers(self, count):
        """Wait until ``count`` more requests are answered."""
        with self.progress:
            enough = self.tally.answered + count
            return self.progress.wait_for(
                lambda: self.tally.answered >= enough, timeout=PATIENCE_SECONDS
            )

    def _ask(self, client):
        connection = None
        for number in itertools.count():
            if self.over.is_set():
                break
            try:
                connection = connection or Connection(self.host, self.port)
            except ConnectionRefusedError:
                self.tally.refused.append(time.monotonic())
                break
            except OSError as error:
                self.tally.lost.append(Loss(0, f"while connecting: {error!r}"))
                break
            connection = self._asked(connection, client * 1e6 + number)
        if connection is not None:
            connection.close()

    def _asked(self, connection, x):
        """Send a request, and return ``connection`` if it is still open."""
        idle = time.monotonic() - connection.used
        try:
            status, body = connection.double(x)
        except (OSError, http.client.HTTPException) as error:
            loss = Loss(connection.port, repr(error), connection.answered, idle)
            self.tally.lost.append(loss)
            connection.close()
            return None
        if status != http.HTTPStatus.OK or json.loads(body)["outputs"]["y"] != [2 * x]:
            self.tally.wrong.append(f"{status} {body[:200]!r}")
        with self.progress:
            self.tally.answered += 1
            self.progress.notify_all()
        return connection if connection.is_open else None


class Connection:
    """Connection to the service.

    Attributes:
        used: Time of the last received data.
    """

    def __init__(self, host, port):
        self.http = WholeConnection(host, port, timeout=PATIENCE_SECONDS)
        self.http.connect()
        self.port = self.http.sock.getsockname()[1]
        self.answered = 0
        self.used = time.monotonic()

    def double(self, x):
        wanted = {"activation": "bilinear", "inputs": {"a": [x], "b": [2.0]}, "dtype": "float64"}
        self.http.request("POST", "/activate", json.dumps(wanted))
        with self.http.getresponse() as response:
            status, body = response.status, response.read()
        self.answered += 1
        self.used = time.monotonic()
        return status, body

    @property
    def is_open(self):
        return self.http.sock is not None

    def close(self):
        self.http.close()


@dataclass
class Report:
    """Observations, and broken promises."""

    seen: collections.Counter = field(default_factory=collections.Counter)
    broken: list[str] = field(default_factory=list)

    def expect(self, what, *, true):
        if not true:
            self.broken.append(what)

    def add(self, tally):
        self.seen["answered"] += tally.answered
        self.seen["lost"] += len(tally.lost)
        for wrong in tally.wrong:
            self.broken.append(f"a wrong answer: {wrong}")

    def __str__(self):
        seen = ", ".join(f"{count} {what}" for what, count in self.seen.items())
        return "\n".join([seen, *(f"BROKEN: {promise}" for promise in self.broken)])


def kill_workers(artifacts, rounds):
    """Kill a worker of one service under load, ``rounds`` times."""
    report = Report()
    with serving(artifacts, GATEWAVE_WORKERS=str(WORKERS), GATEWAVE_THREADS="1") as server:
        with Load(server.url) as load:
            for number in range(rounds):
                load.await_answers(100)
                _kill_one(server, load, report, number)
        report.expect("the service ends with 0", true=server.stop() == 0)
    report.expect("nobody is refused while workers die", true=not load.tally.refused)
    report.add(load.tally)
    return report


def _kill_one(server, load, report, number):
    pids = children(server.process.pid)
    victim = pids[number % len(pids)]
    server.log()
    already = len(load.tally.lost)
    # Stopped first, so that it does not accept another connection while they are counted.
    os.kill(victim, signal.SIGSTOP)
    ports = peers(victim)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    replaced = awaited(lambda: _is_another_ready(server, victim))
    report.expect(f"worker {victim} is replaced", true=replaced)
    report.seen["workers killed"] += 1
    report.seen["milliseconds to replace them"] += round(1e3 * (time.monotonic() - began))
    report.expect("the service goes on", true=load.await_answers(100))
    for loss in load.tally.lost[already:]:
        report.expect(f"a request of another worker's was lost: {loss}", true=loss.port in ports)


def _is_another_ready(server, victim):
    ready = {line["pid"] for line in server.log() if line["message"] == "worker is ready"}
    return bool(ready - {victim})


def end_services(artifacts, rounds):
    """End a service under load, ``rounds`` times, with one worker and with several."""
    report = Report()
    for number in range(rounds):
        _end_one(artifacts, WORKERS if number % 2 == 0 else 1, report)
    return report


def _end_one(artifacts, workers, report):
    settings = {"GATEWAVE_WORKERS": str(workers), "GATEWAVE_GRACE_SECONDS": str(GRACE_SECONDS)}
    with serving(artifacts, **settings, GATEWAVE_THREADS="1") as server:
        with Load(server.url) as load:
            load.await_answers(200)
            slow = threading.Thread(target=_ask_slowly, args=(server, GRACE_SECONDS, report))
            told = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            slow.start()
            after = load.await_answers(50)
            load.join()
        slow.join(PATIENCE_SECONDS)
        status = server.process.wait(PATIENCE_SECONDS)
    lasted = time.monotonic() - told
    refused = load.tally.refused
    report.seen["services ended"] += 1
    report.seen["milliseconds that they took"] += round(1e3 * lasted)
    report.expect(f"it ends with 0, not {status}", true=status == 0)
    report.expect("it answers on after it was told to end", true=after)
    report.expect("all clients are refused in the end", true=len(refused) == CLIENTS)
    report.expect(
        "nobody is refused too early", true=min(refused, default=0) > told + GRACE_SECONDS
    )
    for loss in load.tally.lost:
        report.expect(f"a request was lost: {loss}", true=False)
    report.add(load.tally)


def _ask_slowly(server, seconds, report):
    """Have a large request in progress when the service stops accepting new ones."""
    address = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    half = len(LARGE) // 2
    try:
        connection.connect()
        head = f"POST /activate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LARGE)}\r\n\r\n"
        connection.sock.sendall(head.encode() + LARGE[:half])
        time.sleep(seconds + 0.2)  # This is the slowness of a client, and not a wait for anything.
        connection.sock.sendall(LARGE[half:])
        response = http.client.HTTPResponse(connection.sock, method="POST")
        response.begin()
        report.expect("a slow request is answered", true=json.load(response)["shape"] == [400_000])
        report.seen["slow requests answered"] += 1
    except (OSError, http.client.HTTPException) as error:
        report.broken.append(f"a slow request was lost: {error!r}")
    finally:
        connection.close()


def children(pid):
    """Return the child processes of ``pid``, the oldest first."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def peers(pid):
    """Return the peer ports of the TCP connections of the process ``pid``."""
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.update(re.findall(r"^socket:\[(\d+)\]$", str(descriptor.readlink())))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {int(row[2].partition(":")[2], 16) for row in rows if row[9] in held}


def awaited(condition):
    """Return True if ``condition`` becomes true in time."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (true := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    return true


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        exported = run("export", "--output", folder)
        if exported.returncode:
            sys.exit(exported.stderr)
        reports = []
        for promise in (kill_workers, end_services):
            print(f"{promise.__doc__.splitlines()[0]} ({rounds})", flush=True)
            reports.append(promise(folder, rounds))
            print(reports[-1], flush=True)
    sys.exit(any(report.broken for report in reports))


if __name__ == "__main__":
    main()
