"""Load a service with all kinds of requests for a long time, and check that it does not grow.

``make soak SECONDS=600`` prints its measurements. It ends with 1 if one of these holds in the
second half of the time:

* Resident memory grows by more than 1 % and more than 2 MiB. Samples are minima, taken between
  large requests. The trend is the estimator of Theil and Sen: the median of all slopes.
* The last quarter has more file descriptors, or more threads, than the quarter before, by more
  than one.
* An answer is wrong.

If memory grows, it is measured once more for the same time: a step of the allocator is over then,
and a leak continues.

``--leak`` runs an application that leaks on purpose. It ends with 0 if the verdict finds all leaks.
"""

import argparse
import collections
import contextlib
import itertools
import json
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from asked import WholeConnection, get, in_json, in_oip, in_safetensors, in_strings
from calls import Client
from chaos import children
from odd_calls import CALLS, OddCalls, rpc_address
from processes import GATEWAVE, run, serving
from prometheus_client import ProcessCollector

from gatewave.service.grpc import inference_pb2 as pb

CLIENTS = 4
PATIENCE_SECONDS = 60
SAMPLES = 400
"""Number of samples, for any duration: the slopes of all pairs are compared."""

TIDE = 10
"""Number of samples of which the lowest counts: the others include requests in progress."""

MAX_TURNS = 3
"""Largest number of measurements of the short form."""

REQUESTS_IN_TURN = 5
"""Requests of one step of `Load.in_turn`."""

MAX_GROWTH = 0.01
MAX_GROWTH_BYTES = 2 << 20
MEMORY_GROWS = "resident memory grows"
LEAKS = [MEMORY_GROWS, "open files grow", "threads grow"]
"""Verdict on the application of `leaking.py`."""
LEAKING = [sys.executable, str(Path(__file__).parent / "leaking.py")]

MIX = (
    (40, in_json(64)),
    (10, in_json(4096)),
    (4, in_safetensors((1 << 20,))),
    (20, in_oip((64,))),
    (2, in_oip((1 << 18,))),
    (10, in_oip((64,), binary=False, answer_binary=False)),
    (5, get("/activations/swiglu")),
    (3, get("/readyz")),
    (1, get("/metrics")),
    (3, in_json(8, activation="nothing").but(status=404)),
    (2, in_json(64).but(body=b'{"activation": "swiglu", "inputs":', status=400)),
    (2, in_safetensors((8,)).but(body=b"\xff" * 64, status=400)),
    (2, in_oip((8,)).but(path="/v2/models/nothing/infer", status=404)),
    (2, get("/nothing/here", status=404)),
)
"""Requests, each with its weight."""

LISTS = b",".join([b"[]"] * 200_000)
"""Request that is read in a lane, and refused there."""


def refused(path, body, status=400):
    return in_json(1).but(path=path, body=body, status=status)


def refused_input(data, status=400):
    one = b'{"name":"a","datatype":"FP32","shape":[2],"data":%s}' % data
    return refused("/v2/models/swiglu/infer", b'{"inputs":[%s]}' % one, status)


FIELDS = b",".join(b'"f%d":0' % number for number in range(1000))
REFUSALS = (
    refused("/activate", b'{"activation":"swiglu","inputs":{"a":[%s],"b":1}}' % LISTS, 422),
    refused("/activate", b'{"activation":"swiglu","inputs":{"a":[[1],2],"b":1}}', 422),
    refused("/activate", b'{"activation":"swiglu","inputs":{"a":[NaN]}}'),
    refused("/activate", b"{%s}" % FIELDS, 422),
    refused("/activate", b"[" * 2000),
    refused("/activate/batch", b'{"requests":[%s]}' % LISTS, 422),
    refused("/activate/batch", b'{"requests":[{"activation":"none"}]}', 200),
    in_safetensors((64,), activation="none").but(status=404),
    refused_input(b"[%s]" % LISTS),
    refused_input(b"[[1,2],[3]]"),
    refused_input(b"[" * 20 + b"NaN" + b"]" * 20),
    refused_input(b"[NaN,%s]" % LISTS),
    refused("/v2/models/swiglu/infer", b'{"inputs":[{%s}]}' % FIELDS),
    refused("/v2/repository/index", b"[%s]" % LISTS[:60_001]),
    in_oip((64,)).but(path="/v2/models/swiglu.float64/infer", status=400),
    in_strings(*[b"abc"] * 1000, model="sinc").but(status=400),
)
"""Requests that are refused, each in a different place."""

SHARE_REFUSED = 0.15

GONE = (in_json(64), in_safetensors((1 << 18,)), in_oip((1 << 18,)))
"""Requests of clients that disconnect during the request or before the answer."""


@dataclass
class Load:
    """Clients that send the requests of `MIX` until the block ends.

    Attributes:
        wrong: Descriptions of wrong answers.
    """

    url: str
    rpc: str | None
    answered: collections.Counter = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self):
        rpc = [self._call, self._misuse] if self.rpc else []
        works = [*[self._ask] * CLIENTS, self._leave, *rpc]
        for number, work in enumerate(works):
            chance = random.Random(number)  # noqa: S311 - nothing is secret
            thread = threading.Thread(target=self._until_over, args=(work, chance))
            self.threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)

    @property
    def address(self):
        parts = urllib.parse.urlsplit(self.url)
        return parts.hostname, parts.port

    def in_turn(self, steps):
        """Send the requests of all clients in this thread; yield after each of the ``steps``.

        A step is `REQUESTS_IN_TURN` requests, and one action of each other client.
        """
        self.over.set()  # so that the clients do not wait between two actions
        chance = random.Random(1)  # noqa: S311 - nothing is secret
        asking = self._ask(chance)
        others = [self._leave(chance), self._call(chance), self._misuse(chance)]
        with contextlib.ExitStack() as stack:
            for client in (asking, *others):
                stack.enter_context(contextlib.closing(client))
            for step in range(steps):
                for client in (*[asking] * REQUESTS_IN_TURN, *others):
                    next(client)
                yield step

    def _until_over(self, work, chance):
        try:
            for _ in work(chance):
                if self.over.is_set():
                    break
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self.wrong.append(repr(error))

    def _ask(self, chance):
        """Send requests over one connection."""
        weights, requests = zip(*MIX, strict=True)
        connection = WholeConnection(*self.address, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            while True:
                (asked,) = chance.choices(requests, weights)
                if chance.random() < SHARE_REFUSED:
                    asked = chance.choice(REFUSALS)
                connection.request(asked.method, asked.path, asked.body, asked.headers)
                with connection.getresponse() as response:
                    status, body = response.status, response.read()
                if status != asked.status:
                    self.wrong.append(f"{asked.path}: {status} for {asked.status}: {body[:200]!r}")
                self.answered[status] += 1
                yield

    def _leave(self, chance):
        """Send requests and disconnect, at a limited rate, because each needs a new connection."""
        while True:
            asked = chance.choice(GONE)
            lines = {"Host": "test", "Content-Length": len(asked.body), **asked.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            question = f"POST {asked.path} HTTP/1.1\r\n{head}\r\n".encode() + asked.body
            told = chance.choice((len(question), len(question) // 2, 20))
            with socket.create_connection(self.address, PATIENCE_SECONDS) as connection:
                connection.sendall(question[:told])
            self.answered["gone"] += 1
            yield
            self.over.wait(0.02)

    def _call(self, _):
        """Make gRPC calls, alone and in a stream."""
        document = in_oip((64,))
        length = int(document.headers["Inference-Header-Content-Length"])
        inputs = json.loads(document.body[:length])["inputs"]
        size = inputs[0]["parameters"]["binary_data_size"]
        request = pb.ModelInferRequest(
            model_name="swiglu",
            inputs=[
                {"name": one["name"], "datatype": "FP32", "shape": one["shape"]} for one in inputs
            ],
            raw_input_contents=[
                document.body[length : length + size],
                document.body[length + size :],
            ],
        )
        with grpc.insecure_channel(self.rpc) as channel:
            client = Client(channel)
            for number in itertools.count():
                client.ModelInfer(request, timeout=PATIENCE_SECONDS)
                self._call_wrongly(client, request)
                if number % 10 == 0:
                    list(client.ModelStreamInfer(iter([request] * 3), timeout=PATIENCE_SECONDS))
                self.answered["gRPC"] += 1
                yield
                self.over.wait(0.005)

    def _call_wrongly(self, client, request):
        """Make a call that is refused, alone and in a stream."""
        wrong = pb.ModelInferRequest()
        wrong.CopyFrom(request)
        wrong.raw_input_contents[0] = wrong.raw_input_contents[0][1:]
        try:
            client.ModelInfer(wrong, timeout=PATIENCE_SECONDS)
        except grpc.RpcError as error:
            code = error.code()
        else:
            code = grpc.StatusCode.OK
        (streamed,) = client.ModelStreamInfer(iter([wrong]), timeout=PATIENCE_SECONDS)
        if code != grpc.StatusCode.INVALID_ARGUMENT or not streamed.error_message:
            self.wrong.append(f"gRPC: {code} and {streamed.error_message!r} for a wrong call")

    def _misuse(self, chance):
        """Make gRPC calls that clients never make."""
        odd = OddCalls(self.rpc, chance.random())
        while True:
            odd.burst()
            self.answered["odd gRPC"] += CALLS
            yield
            self.over.wait(0.5)


@dataclass(frozen=True)
class Sample:
    """State of the service's process at one time."""

    seconds: float
    resident_bytes: int
    open_files: int
    threads: int


def sample(pid, at):
    """Return the state of the process at the time ``at``, or None if it has ended."""
    seen = {
        sample.name: sample.value
        for family in ProcessCollector(pid=lambda: pid, registry=None).collect()
        for sample in family.samples
    }
    try:
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        resident, files = seen["process_resident_memory_bytes"], seen["process_open_fds"]
    except (FileNotFoundError, KeyError):
        return None
    return Sample(at, resident, files, threads)


def watch(pid, seconds):
    """Return samples of the process at equal intervals."""
    began = time.monotonic()
    samples = []
    while (at := time.monotonic() - began) < seconds and (seen := sample(pid, at)):
        samples.append(seen)
        time.sleep(seconds / SAMPLES)
    return samples


def step_by_step(server, steps, max_growth):
    """Load a service by one client at a time, and return the verdict.

    A sample is taken after each step, not after some time: the verdict depends on the requests
    only, not on the speed of the machine. If memory grows, it is measured again, `MAX_TURNS` times
    at most: warm-up of the allocator is over then, and a leak continues.
    """
    (worker,) = children(server.process.pid)
    load = Load(server.url, rpc_address(server))

    def samples():
        return [sample(worker, step) for step in load.in_turn(steps)]

    verdict = judge_until_steady(samples, max_growth, MAX_TURNS)
    verdict.bad += [f"a wrong answer: {wrong}" for wrong in load.wrong]
    return verdict


def low_tides(samples):
    """Return the sample with the least memory of each group of consecutive samples."""
    groups = (samples[at : at + TIDE] for at in range(0, len(samples), TIDE))
    return [min(group, key=lambda sample: sample.resident_bytes) for group in groups]


def slope(samples):
    """Return the trend in bytes per second, by Theil and Sen."""
    pairs = itertools.combinations(samples, 2)
    return statistics.median(
        (b.resident_bytes - a.resident_bytes) / (b.seconds - a.seconds) for a, b in pairs
    )


@dataclass
class Verdict:
    """Measurements, and the ones that have grown."""

    said: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def __str__(self):
        return "\n".join([*self.said, *(f"BROKEN: {what}" for what in self.bad)])


def judge(samples, max_growth=MAX_GROWTH):
    """Return a verdict: growth of memory beyond ``max_growth``, a share of it, is bad."""
    verdict = Verdict()
    half = samples[len(samples) // 2 :]
    low = low_tides(half)
    typical = statistics.median(sample.resident_bytes for sample in low)
    growth = slope(low) * (half[-1].seconds - half[0].seconds)
    said = (
        f"resident memory: {typical / 2**20:.1f} MiB, growth over the second half "
        f"{growth / 2**20:+.2f} MiB ({growth / typical:+.2%})"
    )
    verdict.said.append(said)
    if growth > max(max_growth * typical, MAX_GROWTH_BYTES):
        verdict.bad.append(MEMORY_GROWS)
    before, after = half[: len(half) // 2], half[len(half) // 2 :]
    for name in ("open_files", "threads"):
        first, last = (
            statistics.median(getattr(sample, name) for sample in quarter)
            for quarter in (before, after)
        )
        verdict.said.append(f"{name.replace('_', ' ')}: {first:g}, and then {last:g}")
        # Clients that come and go have a connection or two open, and a pool starts its last thread
        # when all others happen to be busy.
        if last > first + 1:
            verdict.bad.append(f"{name.replace('_', ' ')} grow")
    return verdict


def judge_until_steady(samples, max_growth, turns):
    """Measure up to ``turns`` times as long as memory grows; all other growth counts."""
    verdict = judge(samples(), max_growth)
    for _ in range(turns - 1):
        if MEMORY_GROWS not in verdict.bad:
            break
        verdict.bad.remove(MEMORY_GROWS)
        again = judge(samples(), max_growth)
        verdict.said += ["once more:", *again.said]
        verdict.bad = list(dict.fromkeys([*again.bad, *verdict.bad]))
    return verdict


def soak(server, seconds, max_growth=MAX_GROWTH):
    """Load a service, and return the verdict."""
    (worker,) = children(server.process.pid)
    with Load(server.url, rpc_address(server)) as load:
        verdict = judge_until_steady(lambda: watch(worker, seconds), max_growth, turns=2)
    answered = sum(load.answered.values())
    verdict.said.insert(0, f"{answered} requests: {dict(load.answered)}")
    verdict.bad += [f"a wrong answer: {wrong}" for wrong in load.wrong[:10]]
    if server.process.poll() is not None:
        verdict.bad.append(f"the service ended with {server.process.returncode}")
    return verdict


@contextlib.contextmanager
def serving_to_soak(artifacts, *, leak=False):
    """Run a service with all protocols, or one that leaks."""
    program = LEAKING if leak else GATEWAVE
    variables = {"GATEWAVE_GRPC_PORT": "0", "GATEWAVE_ACCESS_LOG": "false"}
    with serving(artifacts, program=program, **variables) as server:
        yield server


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--leak", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Path(folder) / "artifacts"
        run("export", "--output", artifacts).check_returncode()
        with serving_to_soak(artifacts, leak=options.leak) as server:
            verdict = soak(server, options.seconds)
    print(verdict)
    return 0 if verdict.bad == (LEAKS if options.leak else []) else 1


if __name__ == "__main__":
    sys.exit(main())
