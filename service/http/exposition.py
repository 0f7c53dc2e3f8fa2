"""GET /metrics, as Prometheus reads it: the instruments, and what is looked up when it asks."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version

import onnxruntime
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gatewave.service.observability import metrics, processes
from gatewave.service.observability.processes import Process
from gatewave.service.state import ServiceState

PROCESS: tuple[tuple[str, str, Callable[[Process], float]], ...] = (
    ("process_resident_memory_bytes", "Resident memory.", lambda p: p.resident_bytes),
    ("process_virtual_memory_bytes", "Virtual memory.", lambda p: p.virtual_bytes),
    ("process_start_time_seconds", "When it started, as a Unix time.", lambda p: p.started),
    ("process_open_fds", "Open file descriptors.", lambda p: p.open_files),
    ("process_max_fds", "The most file descriptors that it may open.", lambda p: p.most_files),
    ("process_threads", "Threads.", lambda p: p.threads),
)
"""What is said of each process: a gauge's name, its meaning, and where it stands."""


class Counted(Collector):
    """Instruments of all workers.

    Series of models that are no longer known are left out: other workers may not have unloaded them
    yet, and an ended worker cannot drop its series.
    """

    def __init__(self, state: ServiceState) -> None:
        known = state.registry.index().items()
        self.models = {(name, version) for name, versions in known for version in versions}

    def collect(self) -> Iterator[Metric]:
        for family in metrics.collected():
            family.samples = [each for each in family.samples if self._is_known(each.labels)]
            yield family

    def _is_known(self, labels: Mapping[str, str]) -> bool:
        return "model" not in labels or (labels["model"], labels["version"]) in self.models


class Processes(Collector):
    """Each worker as the system sees it, under its process id."""

    def collect(self) -> Iterator[Metric]:
        found = list(processes.workers(metrics.owners()))
        for name, meaning, value in PROCESS:
            gauge = GaugeMetricFamily(name, meaning, labels=["pid"])
            for process in found:
                gauge.add_metric([str(process.pid)], value(process))
            yield gauge
        counter = CounterMetricFamily(
            "process_cpu_seconds", "Processor time, in user and kernel mode.", labels=["pid"]
        )
        for process in found:
            counter.add_metric([str(process.pid)], process.cpu_seconds)
        yield counter


class Facts(Collector):
    """What one worker is and serves: looked up when it is made, on the event loop."""

    def __init__(self, state: ServiceState) -> None:
        self.families = [
            _build(),
            _provider(state),
            _kernels(state),
            _ready(state),
            *_models(state),
        ]

    def collect(self) -> Iterable[Metric]:
        return self.families


def _build() -> Metric:
    words = {
        "version": version("gatewave"),
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
    }
    return InfoMetricFamily("gatewave_build", "What runs.", words)


def _provider(state: ServiceState) -> Metric:
    words = {"device": state.settings.device, "provider": state.engine.provider}
    return InfoMetricFamily(
        "gatewave_provider", "The device that was asked for, and what computes.", words
    )


def _kernels(state: ServiceState) -> Metric:
    kernels = state.engine.kernels
    words = {"kernels": state.settings.kernels, "implementation": kernels.implementation}
    return InfoMetricFamily(
        "gatewave_kernels", "The kernels that were asked for, and what computes our nodes.", words
    )


def _ready(state: ServiceState) -> Metric:
    meaning = "1 if the scraped worker is ready; 0 while it loads models at its start, or drains."
    return GaugeMetricFamily("gatewave_ready", meaning, value=state.ready)


def _models(state: ServiceState) -> Iterator[Metric]:
    """How many versions of models are in each state, and which are ready."""
    states = {"READY": 0, "LOADING": 0, "UNLOADING": 0, "UNAVAILABLE": 0}
    ready = GaugeMetricFamily(
        "gatewave_model_ready",
        "Whether a version of a model answers, in the worker that is asked.",
        labels=["model", "version"],
    )
    for name, versions in state.registry.index().items():
        for number, found in versions.items():
            states[found.state] = states.get(found.state, 0) + 1
            ready.add_metric([name, number], found.state == "READY")
    yield ready
    count = GaugeMetricFamily("gatewave_models", "Versions of models, by state.", labels=["state"])
    for name, number_of in states.items():
        count.add_metric([name.lower()], number_of)
    yield count


def families(state: ServiceState) -> CollectorRegistry:
    """All there is to tell of ``state`` and its neighbours, told when it is collected."""
    # One more series for each child, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics.expect_rejections()
    registry = CollectorRegistry()
    for collector in (Counted(state), Facts(state), Processes()):
        registry.register(collector)
    return registry


def encoded(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The text of ``registry`` in the format that ``accept`` asks for, and its media type."""
    try:
        encoder, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none: then whatever we like
        encoder, media_type = choose_encoder("")
    return encoder(registry), media_type
