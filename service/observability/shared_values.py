"""Numbers of `prometheus_client`'s instruments in tables, and the sums of several tables."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from threading import Lock
from typing import Any, NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from gatewave.service.observability.table import Table

Labels = tuple[tuple[str, str], ...]
ValueClass = Any
"""Type of `prometheus_client.values.ValueClass`: the class of an instrument's numbers."""

log = logging.getLogger(__name__)


class Name(NamedTuple):
    """Identity of a number in a table.

    Attributes:
        mode: The combination of the numbers of several workers: ``livesum``, ``max`` or ``sum``.
        family: The instrument's name.
        sample: The series' name, such as ``family_bucket``.
        labels: The series' labels, in order.
    """

    mode: str
    family: str
    sample: str
    labels: Labels

    def coded(self) -> bytes:
        return f"{self.mode} {json.dumps(self[1:])}".encode()


@lru_cache(maxsize=1 << 15)
def decoded(coded: bytes) -> Name | None:
    """Return the name, or None if it was being written while it was read."""
    mode, _, rest = coded.decode(errors="replace").partition(" ")
    try:
        family, sample, labels = json.loads(rest)
        return Name(mode, family, sample, tuple((name, value) for name, value in labels))
    except ValueError:
        return None


class SharedValue:
    """One number of an instrument, in a table for as long as the instrument uses it."""

    _multiprocess = False  # For the library: this number is not in one of its files.

    def __init__(  # noqa: PLR0917 - as the library calls it
        self,
        table: Table,
        typ: str,  # noqa: ARG002
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,  # noqa: ARG002
        multiprocess_mode: str = "sum",
    ) -> None:
        self._place = 0
        self._table = table
        self._lock = Lock()
        labels = tuple(zip(labelnames, labelvalues, strict=True))
        self._place = table.place(Name(multiprocess_mode, metric_name, name, labels).coded())
        self._value = 0.0
        if self._place:
            self._value = table.read(self._place)
        else:
            _full()

    def __del__(self) -> None:
        if self._place:
            self._table.free(self._place)

    def inc(self, amount: float) -> None:
        with self._lock:
            self._value += amount
            if self._place:
                self._table.write(self._place, self._value)

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002
        with self._lock:
            self._value = value
            if self._place:
                self._table.write(self._place, value)

    def get(self) -> float:
        return self._value

    def set_exemplar(self, exemplar: object) -> None:
        """Ignore exemplars: instruments of several processes have none."""

    def get_exemplar(self) -> None:
        return None


@lru_cache(maxsize=1)
def _full() -> None:
    log.warning("the table of metrics is full; new series are not exposed")


def value_class(table: Table) -> ValueClass:
    """Return a factory of instruments' numbers in ``table``."""
    return partial(SharedValue, table)


def added_up(families: Iterable[Metric], tables: Iterable[Table]) -> list[Metric]:
    """Return ``families`` with the samples of all ``tables`` instead of their own."""
    sums: dict[str, dict[tuple[str, Labels], float]] = defaultdict(dict)
    for name, value in _numbers(tables):
        of, key = sums[name.family], (name.sample, name.labels)
        before = of.get(key, 0.0)
        of[key] = max(before, value) if name.mode == "max" else before + value
    told = []
    for family in families:
        copy = Metric(family.name, family.documentation, family.type)
        found = sums[family.name]
        for sample, labels, value in _of_histogram(found) if _is_histogram(family) else _of(found):
            copy.add_sample(sample, dict(labels), value)
        told.append(copy)
    return told


def _is_histogram(family: Metric) -> bool:
    return bool(family.type == "histogram")


def _numbers(tables: Iterable[Table]) -> Iterator[tuple[Name, float]]:
    for table in tables:
        for coded, value in table:
            name = decoded(coded)
            if name is not None:
                yield name, value


def _of(sums: dict[tuple[str, Labels], float]) -> Iterator[tuple[str, Labels, float]]:
    for (sample, labels), value in sums.items():
        yield sample, labels, value


def _of_histogram(sums: dict[tuple[str, Labels], float]) -> Iterator[tuple[str, Labels, float]]:
    """Yield the samples of histograms: each bucket counts those below it too."""
    buckets: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    totals = {}
    for (sample, labels), value in sums.items():
        if sample.endswith("_bucket"):
            *others, (_, upper) = labels
            buckets[tuple(others)].append((float(upper), value))
        else:
            totals[labels] = (sample, value)
    for labels, (sample, total) in totals.items():
        family, count = sample.removesuffix("_sum"), 0.0
        for bound, value in sorted(buckets[labels]):
            count += value
            upper = floatToGoString(bound)  # type: ignore[no-untyped-call]
            yield f"{family}_bucket", (*labels, ("le", upper)), count
        yield f"{family}_count", labels, count
        yield sample, labels, total
