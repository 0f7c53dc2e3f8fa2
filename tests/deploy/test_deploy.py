"""Consistency of the container files with the project: copied files, packages and names exist."""

import http.server
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gatewave.service.errors import SettingsInvalid
from gatewave.service.http.server import OVERTIME_SECONDS
from gatewave.service.security.exposure import refuse_exposure
from gatewave.service.security.keys import Keys, new_key
from gatewave.service.settings import Settings

ROOT = Path(__file__).parents[2]
SERVING = {"cpu": "cpu", "gpu": "gpu"}
"""Stages of the service, and the extra that each installs."""

NOT_SERVED = ("torch", "onnx", "onnx_ir", "onnxscript", "matplotlib", "mpmath", "sympy")


@dataclass
class Stage:
    base: str
    instructions: list[tuple[str, str]]

    def all(self, name):
        return [rest for instruction, rest in self.instructions if instruction == name]

    def environment(self):
        pairs = (word.split("=", 1) for line in self.all("ENV") for word in shlex.split(line))
        return dict(pairs)

    def copies(self):
        """Yield ``(source stage or None, sources, destination)`` of each COPY."""
        for line in self.all("COPY"):
            flag, words = re.fullmatch(r"(?:--from=(\S+) )?(.*)", line).groups()
            *sources, destination = words.split()
            yield flag, sources, destination


def read_stages():
    text = (ROOT / "deploy/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    stages = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, rest = re.sub(r"\s+", " ", line).strip().split(" ", 1)
        if instruction == "FROM":
            base, name = rest.split(" AS ")
            stages[name] = Stage(base, [])
        elif stages:
            stages[name].instructions.append((instruction, rest))
    return stages


STAGES = read_stages()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
"""Services that are built here; tests/deploy/test_observability.py tests the others."""


@pytest.fixture(autouse=True)
def _defaults_only(monkeypatch):
    for name in [name for name in os.environ if name.startswith("GATEWAVE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=SERVING)
def serving(request):
    return STAGES[request.param]


def test_every_file_copied_exists_and_reaches_the_builder():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        source
        for stage in STAGES.values()
        for origin, sources, _ in stage.copies()
        for source in sources
        if origin is None
    }
    assert copied == sent
    assert [path for path in copied if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("target", "extra"), SERVING.items())
def test_serving_images_take_the_artifacts_from_export_and_no_package_of_it(target, extra):
    origins = {origin: sources for origin, sources, _ in STAGES[target].copies() if origin}
    installer = f"{target}-install"
    assert origins == {installer: ["/opt/gatewave"], "export": ["/artifacts"]}
    installed = re.findall(r"/locks/(\w+)\.txt", " ".join(STAGES[installer].all("RUN")))
    assert installed == ["build", extra]
    ancestors = {STAGES[target].base, STAGES[STAGES[target].base].base if target == "gpu" else ""}
    assert ancestors.isdisjoint({"export", "installer"})


@pytest.mark.parametrize("target", SERVING)
def test_kernels_are_compiled_where_the_image_is_installed_and_no_compiler_is_in_it(target):
    served = [STAGES[target], *(STAGES[base] for base in [STAGES[target].base] if base in STAGES)]
    assert "g++" in " ".join(STAGES[f"{target}-install"].all("RUN"))
    assert "g++" not in " ".join(line for stage in served for line in stage.all("RUN"))
    assert "/native" in [destination for _, _, destination in STAGES["source"].copies()]


def test_kernels_for_gpus_are_compiled_where_there_is_nvcc():
    assert "-devel-" in STAGES["gpu-install"].base
    assert "-runtime-" in STAGES["gpu-base"].base


@pytest.mark.parametrize(
    ("target", "libraries"),
    [("cpu", {"libgatewave.so"}), ("gpu", {"libgatewave.so", "libgatewave_cuda.so"})],
)
def test_no_image_is_made_without_its_kernels(target, libraries):
    *_, install = STAGES[f"{target}-install"].all("RUN")
    _, listed = install.split("&& ls ")
    assert {Path(word).name for word in listed.split()} == libraries


def test_the_command_starts_without_the_packages_that_only_export_needs():
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_SERVED!r})); "
        "sys.argv = ['gatewave', '--help']; from gatewave.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_the_service_runs_unprivileged_and_receives_signals(serving):
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", serving.all("USER")[-1])
    assert [*json.loads(serving.all("ENTRYPOINT")[0]), *json.loads(serving.all("CMD")[0])] == [
        "gatewave",
        "serve",
    ]
    assert serving.all("STOPSIGNAL") == ["SIGTERM"]


def test_both_images_are_run_alike():
    alike = ("USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    cpu, gpu = ([STAGES[target].all(name) for name in alike] for target in SERVING)
    assert cpu == gpu


def test_images_configure_settings_that_exist(serving):
    environment = serving.environment()
    settings = Settings(**_ours(environment))
    assert settings.host == "0.0.0.0"  # noqa: S104 - in a container; what is published is compose's
    assert serving.all("EXPOSE") == [str(settings.port)]
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"


def is_started(settings):
    """Return True if the service starts with these settings and their exposure."""
    host = settings.published_host or settings.host
    try:
        refuse_exposure(
            host, keys=Keys.parse(settings.keys), allow_anonymous=settings.allow_anonymous
        )
    except SettingsInvalid:
        return False
    return True


def test_an_image_without_keys_starts_only_when_told_that_it_may(serving):
    environment = _ours(serving.environment())
    assert not is_started(Settings(**environment))
    assert is_started(Settings(**environment, keys=new_key("infer")[1]))
    assert is_started(Settings(**environment, allow_anonymous=True))


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize(
    ("shell", "starts"),
    [
        ({}, True),
        ({"GATEWAVE_HOST": "0.0.0.0"}, False),  # noqa: S104 - that is the question
        ({"GATEWAVE_HOST": "0.0.0.0", "GATEWAVE_KEYS": new_key("infer")[1]}, True),  # noqa: S104
        ({"GATEWAVE_HOST": "0.0.0.0", "GATEWAVE_ALLOW_ANONYMOUS": "true"}, True),  # noqa: S104
    ],
)
def test_compose_needs_keys_where_it_publishes_to_others(name, shell, starts):
    given = {
        variable: _interpolated(value, shell) if value else shell.get(variable)
        for variable, value in SERVICES[name]["environment"].items()
    }
    image = STAGES[SERVICES[name]["build"]["target"]].environment()
    environment = image | {variable: value for variable, value in given.items() if value}
    assert is_started(Settings(**_ours(environment))) == starts


def _interpolated(value, shell):
    """Interpolate as compose does: the variable of the shell, or the default."""
    return re.sub(r"\$\{(\w+):-(.*?)\}", lambda found: shell.get(*found.groups()), value)


def test_the_gpu_image_refuses_to_fall_back():
    assert Settings(**_ours(STAGES["gpu"].environment())).device == "cuda"


@pytest.mark.parametrize("name", SERVICES)
def test_compose_builds_stages_and_passes_settings_that_exist(name):
    service = SERVICES[name]
    build = service["build"]
    assert (ROOT / build["dockerfile"]).is_file()
    assert service["image"] == f"gatewave:{build['target']}"
    assert build["target"] in SERVING
    assert _ours(service["environment"]).keys() <= Settings.model_fields.keys()
    interpolated = re.findall(r"\$\{GATEWAVE_(\w+):-(.*?)\}", str(service["ports"]))
    defaults = {key.lower(): value for key, value in interpolated}
    assert defaults == {"host": Settings().host, "port": str(Settings().port)}


@pytest.mark.parametrize("name", SERVICES)
def test_compose_checks_health_as_the_image_does(name):
    (of_image,) = STAGES[SERVICES[name]["build"]["target"]].all("HEALTHCHECK")
    assert json.loads(of_image.partition("CMD ")[2]) == SERVICES[name]["healthcheck"]["test"][1:]


@pytest.mark.parametrize("name", SERVICES)
def test_compose_waits_for_the_requests_under_way(name):
    most = Settings().drain_seconds + 2 * OVERTIME_SECONDS
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > most


def test_each_profile_starts_one_service_and_cpu_is_the_default():
    assert sorted(service["profiles"] for service in SERVICES.values()) == [["cpu"], ["gpu"]]
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text().splitlines()


def test_no_install_brings_both_runtimes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    runtimes = {extra: _runtimes(requirements) for extra, requirements in extras.items()}
    assert runtimes.pop("cpu") == {"onnxruntime"}
    assert runtimes.pop("gpu") == {"onnxruntime-gpu"}
    assert set().union(*runtimes.values()) == set()
    assert _runtimes(project["dependencies"]) == set()
    together = [extra for extra, names in extras.items() if re.search("cpu.*gpu", str(names))]
    assert together == []


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1)])
def test_the_health_check_reports_readiness_whatever_the_proxy(status, exit_status):
    class Readiness(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Readiness) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = _check_health(server.server_port)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == exit_status, done.stderr


def test_the_health_check_speaks_tls_where_the_service_does(tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    new = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-subj", "/CN=elsewhere", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *new, *files], check=True, capture_output=True)

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = _check_health(server.server_port, GATEWAVE_TLS_CERTIFICATE=str(certificate))
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 0, done.stderr


def _check_health(port, **variables):
    environment = {**os.environ, "GATEWAVE_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    environment |= variables
    return subprocess.run(
        [sys.executable, ROOT / "deploy/healthcheck.py"],
        env=environment,
        capture_output=True,
        check=False,
    )


def _ours(environment):
    prefix = Settings.model_config["env_prefix"]
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in environment.items()
        if name.startswith(prefix)
    }


def _runtimes(requirements):
    names = (re.match(r"[\w-]+", requirement)[0] for requirement in requirements)
    return {name for name in names if name.startswith("onnxruntime")}
