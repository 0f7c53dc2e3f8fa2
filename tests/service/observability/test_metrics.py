"""GET /metrics: families in the formats of Prometheus, with correct values."""

import contextlib
import functools
import os
import re
import urllib.request
from pathlib import Path

import pytest
from processes import serving
from prometheus_client.openmetrics.parser import text_string_to_metric_families as from_openmetrics
from prometheus_client.parser import text_string_to_metric_families as from_text

from gatewave.service import errors
from gatewave.service.http.exposition import worker_pids
from gatewave.service.observability import metrics
from gatewave.service.serving.memory import REPORT_STEP, Budget

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
WORD = re.compile(r"[^{ ]*")
SWIGLU = {"activation": "swiglu", "inputs": {"a": [1.0, 2.0], "b": [0.5, 0.5]}}


class Scrape:
    """Current content of /metrics."""

    def __init__(self, client, accept=OPENMETRICS):
        self.response = client.get("/metrics", headers={"accept": accept})
        assert self.response.status_code == 200
        self.parse = from_openmetrics if accept == OPENMETRICS else from_text

    @functools.cached_property
    def families(self):
        return {family.name: family for family in self.parse(self.response.text)}

    @property
    def samples(self):
        return [s for family in self.families.values() for s in family.samples]

    def named(self, name):
        """Return the samples of that name; to parse all of them takes a second."""
        lines = [line for line in self.response.text.splitlines() if WORD.match(line)[0] == name]
        text = "\n".join(["# TYPE sample unknown", *lines])
        return [s for family in from_text(text) for s in family.samples]

    def value(self, name, **labels):
        """Return the sum of the samples of that name that have the labels."""
        found = [s.value for s in self.named(name) if labels.items() <= s.labels.items()]
        return sum(found)


@pytest.fixture
def scrape(client):
    return lambda *accept: Scrape(client, *accept)


def test_a_request_is_counted_and_its_time_split_by_phase(scrape, activate):
    before = scrape()
    activate(**SWIGLU)
    after = scrape()

    def added(name):
        name = f"gatewave_{name}_seconds_count"
        return after.value(name, model="swiglu") - before.value(name, model="swiglu")

    assert [added(phase) for phase in ("request", "decode", "compute", "encode")] == [1] * 4


def test_what_the_phases_take_is_less_than_the_whole(scrape, activate):
    before = scrape()
    activate(**SWIGLU)
    after = scrape()

    def took(name):
        name = f"gatewave_{name}_seconds_sum"
        return after.value(name, model="swiglu") - before.value(name, model="swiglu")

    assert 0 < took("compute") <= took("request")
    assert sum(map(took, ("queue", "decode", "compute", "encode"))) <= took("request") * 1.01


def test_a_request_that_a_model_refuses_is_counted_as_failed(scrape, client):
    before = scrape()
    large = {"activation": "sinc", "inputs": {"x": [0.0] * 20_000}}
    assert client.post("/activate", json=large).status_code == 422
    after = scrape()
    for name, labels in (
        ("gatewave_rejected_total", {"reason": "limit"}),
        ("gatewave_request_seconds_count", {"model": "sinc", "outcome": "failed"}),
    ):
        assert after.value(name, **labels) == 1 + before.value(name, **labels)


def test_http_is_counted_by_template_and_never_by_path(scrape, client):
    for path in ("/activations/sinc", "/activations/swish", "/made/up/1", "/made/up/2"):
        client.get(path)
    client.request("BREW", "/activate")
    seen = scrape()
    name = "gatewave_http_request_duration_seconds_count"
    assert seen.value(name, route="/activations/{name}", method="GET", status="200") >= 2
    assert seen.value(name, route=metrics.UNMATCHED, status="404") >= 2
    assert seen.value(name, method="other") >= 1
    routes = {sample.labels["route"] for sample in seen.named(name)}
    assert not any("made" in route or "swish" in route for route in routes)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/openapi.json", "/openapi.json"),
        ("/docs", "/docs"),
        ("/static-offline-docs/swagger-ui.css", "/static-offline-docs"),
        ("/activations/sinc/plot.svg", "/activations/{name}/plot.{kind}"),
    ],
)
def test_every_route_has_a_name(scrape, client, path, route):
    client.get(path)
    name = "gatewave_http_request_duration_seconds_count"
    routes = {sample.labels["route"] for sample in scrape().named(name)}
    assert route in routes


def test_reasons_are_there_before_they_are_needed(scrape):
    seen = {s.labels["reason"] for s in scrape().named("gatewave_rejected_total")}
    assert {"queue", "memory", "deadline", "not_ready", "key_missing"} <= seen


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.Overloaded("memory", "full"), "memory"),
        (errors.DeadlineExceeded("late"), "deadline"),
        (errors.BodyTooLong.at("body", "less", "more"), "body_too_long"),
        (errors.RequestInvalid.at("x", "a number", "a word"), None),
        (RuntimeError("ours"), None),
    ],
)
def test_refusals_are_counted_by_reason_and_nothing_else_is(scrape, error, reason):
    before = scrape()
    metrics.count_rejection(error)
    after = scrape()
    rose = {
        sample.labels["reason"]
        for sample in after.named("gatewave_rejected_total")
        if sample.value > before.value(sample.name, reason=sample.labels["reason"])
    }
    assert rose == ({reason} if reason else set())


def test_the_provider_the_versions_and_the_models_are_told(scrape, app):
    seen = scrape()
    runtime = app.state.service
    assert seen.value("gatewave_provider_info", provider=runtime.engine.provider, device="cpu") == 1
    assert seen.value("gatewave_build_info") == 1
    assert seen.value("gatewave_ready") == 1
    assert seen.value("gatewave_models", state="ready") == len(list(runtime.registry))
    assert seen.value("gatewave_models", state="unavailable") == 0
    assert seen.value("gatewave_model_ready", model="swiglu") == 1


def test_the_process_is_told(scrape):
    seen = scrape()
    assert seen.value("process_resident_memory_bytes") > 1 << 20
    assert seen.value("process_cpu_seconds_total") > 0
    assert seen.value("process_open_fds") > 2
    assert seen.value("process_threads") >= 1
    assert seen.value("process_start_time_seconds") > 1.7e9


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "application/json",
        "text/plain;version=x",
        "application/openmetrics-text; version=1..0",
    ],
)
def test_whoever_asks_otherwise_gets_the_old_text_format(scrape, accept):
    seen = scrape(accept)
    assert seen.response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert seen.value("gatewave_ready") == 1


def test_open_metrics_are_given_to_those_who_accept_them(scrape):
    seen = scrape()
    assert seen.response.headers["content-type"].startswith("application/openmetrics-text")
    assert seen.response.text.endswith("# EOF\n")


def test_names_follow_the_conventions(scrape):
    """Base units end the name, every metric has a help text, and no invalid unit is used."""
    for name, family in scrape().families.items():
        assert family.documentation.endswith("."), name
        assert re.fullmatch(r"(gatewave|process)(_[a-z]+)+", name), name
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent|total)$", name), name
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_rows")), name


def test_no_series_is_named_after_when_it_was_made(scrape, activate):
    activate(**SWIGLU)
    assert [s.name for s in scrape().samples if s.name.endswith("_created")] == []


def test_the_numbers_of_a_model_are_what_is_exposed(scrape, activate):
    activate(**SWIGLU)
    count, total = metrics.numbers()["swiglu", "1"]["compute"]
    seen = scrape()
    assert count == seen.value("gatewave_compute_seconds_count", model="swiglu")
    assert total == pytest.approx(seen.value("gatewave_compute_seconds_sum", model="swiglu"))


class Client:
    """Client that sends requests from other processes, each over a new connection."""

    def __init__(self, server):
        self.server = server

    def get(self, path, headers):
        request = urllib.request.Request(self.server.url + path, headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
            self.text = response.read().decode()
            self.status_code = response.status
            self.headers = response.headers
        return self


@pytest.fixture(scope="module")
def pair(artifacts):
    with serving(artifacts, GATEWAVE_WORKERS="2", GATEWAVE_THREADS="1") as server:
        yield server


def test_whichever_worker_is_asked_tells_the_numbers_of_all(pair):
    asked = 40
    for _ in range(asked):
        pair.post("/activate", SWIGLU)
    told = {
        Scrape(Client(pair)).value("gatewave_request_seconds_count", model="swiglu", outcome="ok")
        for _ in range(8)
    }
    assert told == {asked}


def test_the_wait_for_a_lane_is_timed_of_requests_that_take_one(pair):
    large = {"activation": "bilinear", "inputs": {"a": [0.5] * 100_000, "b": [0.5] * 100_000}}
    small = {"activation": "bilinear", "inputs": {"a": [0.5], "b": [0.5]}}
    for document in (small, large, large):
        pair.post("/activate", document)
    seen = Scrape(Client(pair))
    assert seen.value("gatewave_compute_seconds_count", model="bilinear") == 3
    assert seen.value("gatewave_queue_seconds_count", model="bilinear") == 2


def test_every_worker_is_told_of_as_a_process(pair):
    seen = Scrape(Client(pair))
    pids = {s.labels["pid"] for s in seen.named("process_resident_memory_bytes")}
    assert len(pids) == 2
    assert str(os.getpid()) not in pids
    assert str(pair.process.pid) not in pids
    for pid in pids:
        assert seen.value("process_threads", pid=pid) >= 1
        assert seen.value("process_cpu_seconds_total", pid=pid) > 0


def test_an_ended_process_is_not_reported():
    gone = 2**22 + 1  # more than there may be
    noted = [gone, os.getppid()]  # the second is there, and no worker
    assert list(worker_pids(noted)) == [os.getpid()]


def test_a_process_is_what_the_system_says(scrape, tmp_path):
    with contextlib.ExitStack() as files:
        for number in range(5):
            files.enter_context((tmp_path / str(number)).open("w"))
        more = scrape()
    fewer = scrape()
    assert more.value("process_open_fds") - fewer.value("process_open_fds") == 5
    status = Path("/proc/self/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
    assert fewer.value("process_resident_memory_bytes") == pytest.approx(resident, rel=0.1)
    assert fewer.value("process_threads") == int(re.search(r"Threads:\s+(\d+)", status)[1])


def test_memory_that_is_held_is_told_while_it_is_held(scrape):
    budget = Budget(1 << 30)
    with budget.permit() as permit:
        for _ in range(100):
            permit.take(1 << 15)
        held = scrape().value("gatewave_reserved_bytes")
        assert held == pytest.approx(100 << 15, abs=REPORT_STEP)
    assert scrape().value("gatewave_reserved_bytes") == 0


def documented():
    """Yield name, type, labels and meaning of each metric in docs/metrics.md."""
    text = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    for name, kind, labels, meaning in re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([\w, ]*?) ?\| (.*) \|$", text, re.MULTILINE
    ):
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        yield name.removesuffix(suffix), (kind, meaning), set(filter(None, labels.split(", ")))


def test_what_is_documented_is_what_there_is(scrape, activate):
    activate(**SWIGLU)
    families = scrape().families
    there = {name: (family.type, family.documentation) for name, family in families.items()}
    assert {name: facts for name, facts, _ in documented()} == there
    for name, _, labels in documented():
        samples = families[name].samples
        told = set().union(*(sample.labels for sample in samples)) - {"le"}
        assert told == labels or not samples, name
