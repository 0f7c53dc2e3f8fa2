"""Metrics of several workers are in shared memory, not in files."""

import json
import os
import random
import signal
import subprocess
import sys
import urllib.request

import pytest
from processes import serving
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import values as prometheus_values
from waiting import eventually

from gatewave.service.observability import shared_values
from gatewave.service.observability.table import HEAD, LIVE, SIZE, Table, create
from gatewave.service.processes import supervisor

SWIGLU = {"activation": "swiglu", "inputs": {"a": [1.0, 2.0], "b": [0.5, 0.5]}}


@pytest.fixture
def descriptor():
    descriptor = create()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def owned(descriptor):
    table = Table(descriptor)
    table.own()
    return table


def test_another_reader_sees_what_the_owner_writes(descriptor, owned):
    place = owned.place(b"one")
    owned.write(place, 2.5)
    reader = Table(descriptor)
    assert dict(reader) == {b"one": 2.5}
    assert reader.owner == os.getpid()
    reader.disown()
    assert owned.owner == 0


def test_another_process_sees_it_too(descriptor, owned):
    owned.write(owned.place(b"one"), 2.5)
    program = (
        f"from gatewave.service.observability.table import Table; print(dict(Table({descriptor})))"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, pass_fds=[descriptor], capture_output=True, check=True)
    assert ended.stdout == b"{b'one': 2.5}\n"


def test_the_next_owner_goes_on_where_the_last_one_ended(descriptor, owned):
    owned.write(owned.place(b"total"), 7.0)
    owned.write(owned.place(LIVE + b"sum depth"), 3.0)
    Table(descriptor).zero(LIVE)
    following = Table(descriptor)
    following.own()
    assert following.read(following.place(b"total")) == 7.0
    assert dict(following) == {b"total": 7.0, LIVE + b"sum depth": 0.0}


@pytest.mark.parametrize("seed", range(5))
def test_freed_places_are_reused(descriptor, owned, seed):
    choose = random.Random(seed)  # noqa: S311 - to be repeated
    kept = {}
    for number in range(3000):
        name = f"{number} {'x' * choose.randrange(90)}".encode()
        kept[name] = owned.place(name)
        owned.write(kept[name], float(number))
        if len(kept) > 50:
            owned.free(kept.pop(choose.choice(list(kept))))
    expected = {name: float(name.split()[0]) for name in kept}
    assert dict(owned) == expected == dict(Table(descriptor))
    used, _ = HEAD.unpack_from(owned._memory)  # noqa: SLF001
    assert used < 60 * 1000


def test_a_full_table_takes_no_more_and_breaks_nothing(owned):
    name = b"x" * (SIZE // 4)
    assert all(owned.place(name) for _ in range(3))
    assert owned.place(name) == 0
    assert owned.place(b"small")
    instrument = shared_values.SharedValue(
        owned, "counter", "f", "f_total", ["label"], ["y" * SIZE], ""
    )
    instrument.inc(1)
    assert instrument.get() == 1


def test_a_name_that_is_being_written_is_passed_over():
    name = shared_values.Name("sum", "family", "family_total", (("a", "b"),))
    assert shared_values.decoded(name.coded()) == name
    for cut in range(len(name.coded())):
        assert shared_values.decoded(name.coded()[:cut]) is None


def instruments(kind):
    """Return one instrument of each type, with numbers of ``kind``."""
    before, prometheus_values.ValueClass = prometheus_values.ValueClass, kind
    try:
        registry = CollectorRegistry()
        depth = Gauge("depth", "Now.", multiprocess_mode="livesum", registry=registry)
        last = Gauge("last", "Last.", ["m"], multiprocess_mode="max", registry=registry)
        total = Counter("total", "All.", ["m"], registry=registry)
        times = Histogram("times", "Times.", ["m"], buckets=(0.1, 0.5, 2), registry=registry)
        for m in ("a", 'b"\\\n'):
            last.labels(m), total.labels(m), times.labels(m)
    finally:
        prometheus_values.ValueClass = before
    return registry, (depth, last, total, times)


def test_two_tables_add_up_to_one_process(descriptor):
    choose = random.Random(1)  # noqa: S311
    single, in_one = instruments(prometheus_values.MutexValue)
    tables = [Table(descriptor), Table(create())]
    for table in tables:
        table.own()
    registries, in_two = zip(
        *[instruments(shared_values.value_class(t)) for t in tables], strict=True
    )
    for _ in range(200):
        m, amount = choose.choice(("a", 'b"\\\n')), choose.choice((0.0, 0.1, 0.25, 1.0, 4.0))
        for depth, last, total, times in (in_one, choose.choice(in_two)):
            depth.inc(amount)
            total.labels(m).inc(amount)
            times.labels(m).observe(amount)
            last.labels(m).set(max(amount, last.labels(m)._value.get()))  # noqa: SLF001

    def told(families):
        return {
            (each.name, family.documentation, family.type, json.dumps(each.labels)): each.value
            for family in families
            for each in family.samples
            if not each.name.endswith("_created")
        }

    merged = told(shared_values.added_up(registries[0].collect(), tables))
    assert merged == pytest.approx(told(single.collect()))


def test_a_series_that_is_removed_leaves_the_table(owned):
    _, (_, last, total, times) = instruments(shared_values.value_class(owned))
    for instrument in (last, total, times):
        instrument.remove("a")
    left = [shared_values.decoded(name) for name, _ in owned]
    assert all(("m", "a") not in name.labels for name in left)
    assert any(("m", 'b"\\\n') in name.labels for name in left)


def test_workers_start_where_metrics_cannot_be_shared(monkeypatch, caplog):
    def fails(_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", fails)
    assert supervisor.metric_tables(2) == {}
    assert "each reports its own" in caplog.text


def metrics_of(server):
    """Return the samples of /metrics, as text, by name and labels."""
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as response:  # noqa: S310
        lines = response.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def answered(server):
    name = 'gatewave_request_seconds_count{model="swiglu",outcome="ok",version="1"}'
    return float(metrics_of(server).get(name, 0))


@pytest.mark.parametrize("folder", ["missing", "present"])
def test_metrics_of_workers_use_no_temporary_files(artifacts, tmp_path, folder):
    temporary = tmp_path / folder
    if folder == "present":
        temporary.mkdir()
    two = {"GATEWAVE_WORKERS": "2", "GATEWAVE_THREADS": "1", "TMPDIR": str(temporary)}
    with serving(artifacts, **two) as server:
        for _ in range(9):
            server.post("/activate", SWIGLU)
        assert {answered(server) for _ in range(6)} == {9}
        assert not temporary.exists() or list(temporary.iterdir()) == []
        pids = [name for name in metrics_of(server) if name.startswith("process_threads")]
        assert len(pids) == 2
        victim = int(server.await_log("worker is ready")["pid"]) if folder == "present" else None
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
            server.await_log("worker is ready")
            eventually(lambda: answered(server) >= 9)
            assert {answered(server) for _ in range(6)} == {9}
        assert server.stop() == 0
