"""Configuration of Prometheus and Grafana: valid, safe, and limited to existing metrics."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from processes import serving
from waiting import eventually

from gatewave.service.app import create_app
from gatewave.service.http import exposition
from gatewave.service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OBSERVERS = {name: s for name, s in COMPOSE["services"].items() if "build" not in s}
CONFIGURATION = ROOT / "deploy/prometheus/prometheus.yml"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/gatewave.json").read_text())
PROVISIONING = ROOT / "deploy/grafana/provisioning"

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
real = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None,
    reason="Debian's package `prometheus` is not installed",
)
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
BY_PROMETHEUS = {"up"}
"""Metrics that Prometheus itself records about its targets."""


@pytest.fixture(scope="module")
def families(artifacts):
    """Return the existing metrics by name."""
    app = create_app(Settings(artifacts=artifacts, device="cpu", threads=1))
    return {family.name: family for family in exposition.families(app.state.service).collect()}


@pytest.fixture(scope="module")
def series(families):
    """Return the names of series that a query may use."""
    return BY_PROMETHEUS | {
        name + suffix
        for name, family in families.items()
        for suffix in SUFFIXES.get(family.type, ("",))
    }


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions():
    """Yield every query of the dashboard and of the alerts, with its location."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']} {target['refId']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield f"variable {variable['name']}", variable["definition"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


EXPRESSIONS = dict(expressions())


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_what_is_asked_for_is_there(place, series):
    asked = set(re.findall(r"\b(?:gatewave|process)_\w+|\bup\b", EXPRESSIONS[place]))
    assert asked
    assert asked <= series


def test_every_metric_of_ours_is_on_the_dashboard_or_known_not_to_be(families):
    shown = " ".join(EXPRESSIONS.values())
    silent = {name for name in families if name not in shown}
    assert silent == {
        "gatewave_kernels",
        "gatewave_last_inference_timestamp_seconds",
        "gatewave_model_ready",
        "process_max_fds",
        "process_virtual_memory_bytes",
    }


def test_panels_do_not_overlap_and_have_titles_and_units():
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_asks_the_source_that_is_provisioned():
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert OBSERVERS[host]["ports"][0].endswith(f":{port}")


def test_the_dashboards_are_where_grafana_looks_for_them():
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/gatewave.yml").read_text())[
        "providers"
    ]
    mounts = dict(volume.split(":")[:2] for volume in OBSERVERS["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    home = OBSERVERS["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/gatewave.json"


def test_what_is_scraped_is_what_compose_runs():
    (job,) = yaml.safe_load(CONFIGURATION.read_text())["scrape_configs"]
    (lookup,) = job["dns_sd_configs"]
    assert set(lookup["names"]) == COMPOSE["services"].keys() - OBSERVERS.keys()
    assert lookup["port"] == Settings().port


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_are_pinned_bounded_and_unprivileged(name):
    service = OBSERVERS[name]
    assert service["profiles"] == ["observability"]
    assert re.fullmatch(r"\S+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert re.match(r"[1-9]\d*:", service["user"])


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_are_for_this_machine_only_since_they_ask_for_no_password(name):
    assert all(port.startswith("127.0.0.1:") for port in OBSERVERS[name]["ports"])


@pytest.mark.parametrize("name", OBSERVERS)
def test_what_is_mounted_is_there_and_read_only(name):
    for volume in OBSERVERS[name]["volumes"]:
        source, _, *mode = volume.split(":")
        if source.startswith("./"):
            assert (ROOT / source).is_dir()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_grafana_has_no_account_that_a_password_could_open():
    environment = OBSERVERS["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in environment if "PASSWORD" in name]


@real
def test_promtool_takes_the_configuration_and_the_alerts():
    done = subprocess.run(
        [PROMTOOL, "check", "config", "--lint-fatal", CONFIGURATION],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(artifacts):
    with serving(artifacts, GATEWAVE_WORKERS="2", GATEWAVE_THREADS="1") as server:
        for x in range(20):
            server.post("/activate", {"activation": "sinc", "inputs": {"x": [x]}})
        yield server


def fetch(url):
    # Not through the proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as response:
        return response.read()


@real
def test_promtool_finds_nothing_to_say_about_the_metrics(server):
    text = fetch(server.url + "/metrics")
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""


def free_port():
    """Return a free port, because Prometheus does not report a port that it chooses."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextlib.contextmanager
def prometheus(folder, target):
    """Run the real Prometheus with our configuration, except for the address of its target."""
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = configuration["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [target]}]
    shutil.copy(ALERTS, folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield lambda path: json.loads(fetch(f"http://{address}/api/v1/{path}"))["data"]
        finally:
            process.terminate()
            process.wait(30)


@real
def test_prometheus_scrapes_a_live_service(server, tmp_path):
    with prometheus(tmp_path, server.url.removeprefix("http://")) as ask:

        def up():
            targets = ask("targets")["activeTargets"]
            return [target for target in targets if target["health"] == "up"]

        (target,) = eventually(up, 60, pause=0.2, ignored=OSError)
        assert target["lastError"] == ""
        query = 'query?query=gatewave_request_seconds_count{model="sinc",outcome="ok"}'
        (sample,) = eventually(lambda: ask(query)["result"], 60, pause=0.2, ignored=OSError)
        assert float(sample["value"][1]) == 20
        rules = ask("rules")["groups"][0]["rules"]
        assert {
            rule["health"]
            for rule in eventually(lambda: _evaluated(ask), 60, pause=0.2, ignored=OSError)
        } == {"ok"}
        assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def _evaluated(ask):
    rules = ask("rules")["groups"][0]["rules"]
    return rules if all(rule["health"] != "unknown" for rule in rules) else None
