"""Content of GET /metrics: the instruments, and values that are looked up at each scrape."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import onnxruntime
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gatewave.service.observability import metrics
from gatewave.service.state import ServiceState

PARENT, THREADS = 1, 17
"""Positions in /proc/PID/stat, counted from behind the name of the command."""


class InstrumentCollector(Collector):
    """Instruments of all workers.

    Series of unknown models are left out: other workers may not have unloaded them yet, and an
    ended worker cannot drop its series.
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


class WorkerProcessCollector(Collector):
    """Memory, processor time, files and threads of each worker, by process id."""

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for pid in worker_pids(metrics.owners()):
            for family in _process_families(pid):
                copy = Metric(family.name, family.documentation, family.type)
                merged = families.setdefault(family.name, copy)
                for sample in family.samples:
                    merged.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        return families.values()


class StateCollector(Collector):
    """State of one worker; it is read when the collector is made, on the event loop."""

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


def families(state: ServiceState) -> CollectorRegistry:
    """Return the registry of all metrics, those of other workers included."""
    # One more series for each child, which no dashboard uses.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics.expect_rejections()
    registry = CollectorRegistry()
    for collector in (InstrumentCollector(state), StateCollector(state), WorkerProcessCollector()):
        registry.register(collector)
    return registry


def encoded(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return the text of ``registry`` in the format that ``accept`` asks for, and its type."""
    try:
        encoder, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # The version is no number: the library does not catch that.
        encoder, media_type = choose_encoder("")
    return encoder(registry), media_type


def worker_pids(others: Iterable[int]) -> Iterator[int]:
    """Yield the process ids of this process and of the other workers.

    Args:
        others: The noted process ids of the other workers; this process may be among them.
    """
    for pid in sorted({os.getpid(), *others}):
        stat = _stat(pid)
        # A note may outlive its worker, and another program may get the process id.
        if stat and (pid == os.getpid() or int(stat[PARENT]) == os.getppid()):
            yield pid


def _process_families(pid: int) -> Iterator[Metric]:
    """Yield the library's metrics of a process, and the number of its threads."""
    yield from ProcessCollector(pid=lambda: pid, registry=None).collect()
    if stat := _stat(pid):
        yield GaugeMetricFamily("process_threads", "Number of threads.", value=int(stat[THREADS]))


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat; none if the process is gone or cannot be looked at."""
    try:
        # The name of the command, before the last parenthesis, may contain any character.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _build() -> Metric:
    labels = {
        "version": version("gatewave"),
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
    }
    return InfoMetricFamily("gatewave_build", "Versions of the service and its libraries.", labels)


def _provider(state: ServiceState) -> Metric:
    labels = {"device": state.settings.device, "provider": state.engine.provider}
    return InfoMetricFamily(
        "gatewave_provider", "Requested device, and the execution provider in use.", labels
    )


def _kernels(state: ServiceState) -> Metric:
    kernels = state.engine.kernels
    labels = {"kernels": state.settings.kernels, "implementation": kernels.implementation}
    return InfoMetricFamily(
        "gatewave_kernels", "Requested kernels, and the implementation in use.", labels
    )


def _ready(state: ServiceState) -> Metric:
    meaning = "1 if the scraped worker is ready; 0 while it loads models at its start, or drains."
    return GaugeMetricFamily("gatewave_ready", meaning, value=state.ready)


def _models(state: ServiceState) -> Iterator[Metric]:
    """Yield the readiness of each version, and the number of versions in each state."""
    counts = {"READY": 0, "LOADING": 0, "UNLOADING": 0, "UNAVAILABLE": 0}
    ready = GaugeMetricFamily(
        "gatewave_model_ready",
        "1 if the version is ready on the scraped worker.",
        labels=["model", "version"],
    )
    for name, versions in state.registry.index().items():
        for number, found in versions.items():
            counts[found.state] = counts.get(found.state, 0) + 1
            ready.add_metric([name, number], found.state == "READY")
    yield ready
    count = GaugeMetricFamily("gatewave_models", "Versions of models, by state.", labels=["state"])
    for model_state, number_of in counts.items():
        count.add_metric([model_state.lower()], number_of)
    yield count
