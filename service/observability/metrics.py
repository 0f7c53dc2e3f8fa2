"""Counters and timers for Prometheus and for the statistics of the inference protocol.

Each of several workers keeps its numbers in a table that the others can read
(`gatewave.service.observability.table`). The scraped worker adds them up.
`gatewave.service.http.exposition` writes them, and adds values that are looked up and not counted:
the processes, the provider, the models.

Names follow Prometheus: base units, the unit in the name, ``_total`` for counters. Labels come from
bounded sets only: served models, templates of routes, reasons and outcomes listed here.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric

from gatewave.service.errors import ServiceError, descendants
from gatewave.service.observability import shared_values
from gatewave.service.observability.table import Table
from gatewave.service.observability.tracing.trace import current

INSTRUMENTS = CollectorRegistry()
"""The instruments of this process. The library's default registry also has collectors of its own,
which report nothing with several workers."""

# By default, the library reads PROMETHEUS_MULTIPROC_DIR, which may belong to another program.
values.ValueClass = values.MutexValue

SECONDS = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MODEL = ["model", "version"]


class Distribution(Histogram):
    """A histogram that finds its bucket by bisection, at half the library's cost."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


HTTP = Distribution(
    "gatewave_http_request_duration_seconds",
    "Duration of HTTP requests, from their headers to the end of the answer, by route template.",
    ["route", "method", "status"],
    buckets=SECONDS,
    registry=INSTRUMENTS,
)
GRPC = Distribution(
    "gatewave_grpc_request_duration_seconds",
    "Duration of gRPC calls, from their metadata to their status; a stream is one call.",
    ["method", "status"],
    buckets=SECONDS,
    registry=INSTRUMENTS,
)
REQUEST = Distribution(
    "gatewave_request_seconds",
    "Duration of inference requests that reached a model, over any protocol, from arrival to the "
    "complete answer, by outcome.",
    [*MODEL, "outcome"],
    buckets=SECONDS,
    registry=INSTRUMENTS,
)
QUEUE = Distribution(
    "gatewave_queue_seconds",
    "Time that requests waited for a lane, from admission to start; small requests need no lane.",
    MODEL,
    buckets=SECONDS,
    registry=INSTRUMENTS,
)
DECODE = Distribution(
    "gatewave_decode_seconds",
    "Time to read the tensors of a request, without waiting.",
    MODEL,
    buckets=SECONDS,
    registry=INSTRUMENTS,
)
COMPUTE = Distribution(
    "gatewave_compute_seconds",
    "Duration of runs in ONNX Runtime; batched requests share one run.",
    MODEL,
    buckets=SECONDS,
    registry=INSTRUMENTS,
)
ENCODE = Distribution(
    "gatewave_encode_seconds",
    "Time to write the answer of a request, without waiting.",
    MODEL,
    buckets=SECONDS,
    registry=INSTRUMENTS,
)
BATCH_ROWS = Distribution(
    "gatewave_batch_rows",
    "Rows of all requests in one run, for models with batching.",
    MODEL,
    buckets=ROWS,
    registry=INSTRUMENTS,
)
LAST = Gauge(
    "gatewave_last_inference_timestamp_seconds",
    "Unix time of the model's last answer.",
    MODEL,
    multiprocess_mode="max",
    registry=INSTRUMENTS,
)
REJECTED = Counter(
    "gatewave_rejected",
    "Rejected requests over any protocol, by reason; invalid requests are not counted.",
    ["reason"],
    registry=INSTRUMENTS,
)
RESTARTS = Counter(
    "gatewave_model_process_ends",
    "Ended processes of isolated models; each was replaced.",
    MODEL,
    registry=INSTRUMENTS,
)
QUEUE_DEPTH = Gauge(
    "gatewave_queue_depth",
    "Requests that wait for a lane.",
    multiprocess_mode="livesum",
    registry=INSTRUMENTS,
)
ABANDONED_LANES = Gauge(
    "gatewave_abandoned_lanes",
    "Cancelled runs that have not ended; other lanes replace theirs.",
    multiprocess_mode="livesum",
    registry=INSTRUMENTS,
)
RESERVED_BYTES = Gauge(
    "gatewave_reserved_bytes",
    "Memory held by bodies and results of requests in progress, to 64 KiB per worker.",
    multiprocess_mode="livesum",
    registry=INSTRUMENTS,
)


Span = tuple[float, float]
"""A beginning and an end, in seconds of `time.perf_counter`."""

Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> Callable[[], tuple[Result, Span]]:
    """Return ``work`` with its time span, which another thread may read later."""

    def run() -> tuple[Result, Span]:
        began = time.perf_counter()
        result = work()
        return result, (began, time.perf_counter())

    return run


class Meter:
    """Instruments of one model. Their children are looked up once: a lookup costs a microsecond.

    Attributes:
        labels: The values of the labels ``model`` and ``version``.
        ok: Requests answered with tensors.
        failed: Requests answered with an error, of the caller or of the service.
    """

    def __init__(self, model: str, version: str) -> None:
        self.labels = labels = (model, version)
        self.ok = REQUEST.labels(*labels, "ok")
        self.failed = REQUEST.labels(*labels, "failed")
        self.queue = QUEUE.labels(*labels)
        self.decode = DECODE.labels(*labels)
        self.compute = COMPUTE.labels(*labels)
        self.encode = ENCODE.labels(*labels)
        self.batch_rows = BATCH_ROWS.labels(*labels)
        self.last = LAST.labels(*labels)

    def finished(self, began: float, decoding: Span, encoding: Span) -> None:
        """Count and trace a request that was answered. Times are of `time.perf_counter`."""
        self.decode.observe(decoding[1] - decoding[0])
        self.encode.observe(encoding[1] - encoding[0])
        self.ok.observe(encoding[1] - began)
        self.last.set(time.time())
        trace = current.get()
        if trace is not None:
            trace.mark("decode", *decoding)
            trace.mark("encode", *encoding)

    def remove(self) -> None:
        """Drop the model's series; later counts of requests under way are not exposed."""
        for family in (QUEUE, DECODE, COMPUTE, ENCODE, BATCH_ROWS, LAST, RESTARTS):
            family.remove(*self.labels)
        for outcome in ("ok", "failed"):
            REQUEST.remove(*self.labels, outcome)

    def unanswered(self, began: float) -> None:
        """Count a request that was answered with an error."""
        self.failed.observe(time.perf_counter() - began)


PARTS = {
    "gatewave_queue_seconds": "queue",
    "gatewave_decode_seconds": "decode",
    "gatewave_compute_seconds": "compute",
    "gatewave_encode_seconds": "encode",
    "gatewave_batch_rows": "rows",
    "gatewave_last_inference_timestamp_seconds": "last",
}


class ModelTotals(dict[str, tuple[int, float]]):
    """Counts and sums of one model, by the names that `Meter` gives them; 0 by default."""

    def __missing__(self, name: str) -> tuple[int, float]:
        return 0, 0.0


def numbers() -> dict[tuple[str, str], ModelTotals]:
    """Return the totals of all workers, by model and version."""
    found: dict[tuple[str, str], ModelTotals] = {}
    for family in collected():
        for sample in family.samples:
            part = PARTS.get(family.name) or sample.labels.get("outcome")
            if part is None or sample.name.endswith(("_bucket", "_created")):
                continue
            of = found.setdefault((sample.labels["model"], sample.labels["version"]), ModelTotals())
            count, total = of[part]
            if sample.name.endswith("_count"):
                of[part] = int(sample.value), total
            else:
                of[part] = count, sample.value
    return found


_tables: list[Table] = []
"""Tables of all workers, if there are several."""


def share(tables: Sequence[Table], number: int) -> None:
    """Keep this process's numbers in table ``number``, and add up all tables in a scrape.

    Call it before the first count.
    """
    tables[number].own()
    values.ValueClass = shared_values.value_class(tables[number])
    for instrument in INSTRUMENTS._collector_to_names:  # noqa: SLF001 - it tells by no other means
        # Instruments with labels create their numbers later; others were created for one process.
        if isinstance(instrument, (Counter, Gauge)) and not instrument._labelnames:  # noqa: SLF001
            instrument._metric_init()  # noqa: SLF001
    _tables[:] = tables


def owners() -> list[int]:
    """Return the process ids of all workers, if there are several."""
    return [table.owner for table in _tables if table.owner]


def collected() -> Iterable[Metric]:
    """Return the families of this process's instruments, or of those of all workers."""
    own = INSTRUMENTS.collect()
    return shared_values.added_up(own, _tables) if _tables else own


SCARCE = (
    "queue",
    "memory",
    "client_memory",
    "streams",
    "calls",
    "connections",
    "client_connections",
    "client_requests",
)
"""Reasons of `Overloaded`: the exhausted resources."""


def count_rejection(error: BaseException) -> None:
    """Count ``error`` by its reason, if it has one; invalid requests have none."""
    if isinstance(error, ServiceError) and error.reason is not None:
        REJECTED.labels(error.reason).inc()


def reasons() -> set[str]:
    """Return all reasons of rejections."""
    return {*SCARCE, *(error.reason for error in descendants() if error.reason is not None)}


def expect_rejections() -> None:
    """Expose all reasons from the start, with 0: a rate needs a first value."""
    for reason in sorted(reasons()):
        REJECTED.labels(reason)


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
"""Route label of requests without a route, because callers can invent paths."""


def method_label(method: str, other: str = "other") -> str:
    """Return ``method`` if HTTP defines it, otherwise ``other``: callers may send any token."""
    return method if method in METHODS else other


_HTTP: dict[tuple[str, str, int], Distribution] = {}


def observe_http(route: str, method: str, status: int, seconds: float) -> None:
    """Time one HTTP request.

    Args:
        route: The template, such as ``/v2/models/{model}/infer``: never a path.
        method: The caller's method; methods that HTTP does not define are counted as one.
        status: The status of the answer; 0 if the caller disconnected before it.
        seconds: The duration from the request's headers to the end of its answer.
    """
    key = (route, method_label(method), status)
    child = _HTTP.get(key)
    if child is None:
        child = _HTTP[key] = HTTP.labels(*key)
    child.observe(seconds)


def observe_grpc(method: str, status: str, seconds: float) -> None:
    """Time one call.

    Args:
        method: A served path, or one word for all others; never text from the caller.
        status: The name of the call's status code.
        seconds: The duration from the call's metadata to its status.
    """
    GRPC.labels(method, status).observe(seconds)
