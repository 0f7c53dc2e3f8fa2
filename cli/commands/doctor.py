"""`gatewave doctor`: installed parts, and faults in them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import onnxruntime as ort
import typer
from rich.text import Text

from gatewave.cli.commands import output, probing
from gatewave.service.activations.artifact import artifact_paths, load
from gatewave.service.errors import DeviceUnavailable, ServiceError
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import CUDA
from gatewave.service.settings import Settings
from gatewave.service.system import cpus

FindingLevel = Literal["ok", "note", "wrong"]
STYLES: dict[FindingLevel, str] = {"ok": "green", "note": "yellow", "wrong": "bold red"}

PACKAGES = ("gatewave", "fastapi", "uvicorn", "pydantic", "numpy", "onnx", "torch")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    verdict: FindingLevel
    detail: str


def doctor(
    artifacts: Annotated[Path | None, typer.Option(help="What `gatewave export` wrote.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    probe: Annotated[
        bool,
        typer.Option(help="Only run tiny models, and show which operators the runtime runs."),
    ] = False,
) -> None:
    """Look at versions, ONNX Runtime, CUDA, kernels and artifacts; exit with 1 if any is wrong.

    Examples: `gatewave doctor --json`, `gatewave doctor --probe`
    """
    if probe:
        probing.show(as_json=as_json)
        return
    settings = Settings()
    findings = [
        *_versions(),
        *_runtimes(),
        *_cuda(),
        *_device(settings),
        *_kernels(settings),
        *_artifacts(artifacts or settings.artifacts, settings),
    ]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(1)


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        version = _version(name)
        verdict: FindingLevel = "ok" if version else "note"
        yield Finding(name, verdict, version or "not installed; only export needs it")
    yield Finding("processors", "ok", f"{cpus.available()} really available")


def _runtimes() -> Iterator[Finding]:
    installed = {name: version for name in RUNTIMES if (version := _version(name))}
    wheels = ", ".join(f"{name} {version}" for name, version in installed.items())
    if len(installed) > 1:
        detail = f"{wheels}: they share one module and break each other; uninstall all but one"
        yield Finding("onnxruntime", "wrong", detail)
    else:
        yield Finding("onnxruntime", "ok", f"{wheels}, module {ort.__version__}")
    yield Finding("providers", "ok", ", ".join(ort.get_available_providers()))


def _cuda() -> Iterator[Finding]:
    driver = _driver_major()
    if CUDA not in ort.get_available_providers():
        seen = f"; the driver has CUDA {driver}" if driver else ""
        yield Finding("cuda", "note", f"this onnxruntime is built without it{seen}")
        return
    built = str(getattr(ort, "cuda_version", "") or "?").partition(".")[0]
    wrong = driver is None or (built.isdecimal() and driver < int(built))
    detail = f"onnxruntime is built for CUDA {built}, the driver has {driver or 'none'}"
    yield Finding("cuda", "wrong" if wrong else "ok", detail)


def _driver_major() -> int | None:
    """The major version of CUDA that the driver supports, if there is a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000


def _device(settings: Settings) -> Iterator[Finding]:
    try:
        engine = Engine.start(settings.device, settings.threads, kernels="function")
    except ServiceError as error:
        yield Finding("device", "wrong", f"GATEWAVE_DEVICE={settings.device}: {error}")
        return
    detail = f"{settings.device} means {engine.provider}, with {engine.threads} threads"
    yield Finding("device", "ok", detail)


def _kernels(settings: Settings) -> Iterator[Finding]:
    try:
        kernels = _wanted(settings).kernels
    except ServiceError as error:
        yield Finding("kernels", "wrong", str(error))
        return
    if kernels.operators:
        names = ", ".join(sorted(kernels.operators))
        yield Finding("kernels", "ok", f"{kernels.path}: {kernels.implementation}: {names}")
    elif kernels.path:
        yield Finding("kernels", "wrong", kernels.absence)
    else:
        yield Finding("kernels", "note", f"function bodies are computed: {kernels.absence}")


def _wanted(settings: Settings) -> Engine:
    """The device that is wanted, or the CPU where it does not work, with the kernels for it."""
    try:
        device = Engine.start(settings.device, settings.threads, kernels="function")
    except DeviceUnavailable:
        device = Engine.start("cpu", settings.threads, kernels="function")
    return device.using(settings.kernels, settings.kernels_instructions)


def _on_the_cpu(settings: Settings) -> Engine:
    """The CPU, with the kernels that are wanted, if they can be had: `_kernels` says why not."""
    engine = Engine.start("cpu", settings.threads, kernels="function")
    with contextlib.suppress(ServiceError):
        return engine.using(settings.kernels, settings.kernels_instructions)
    return engine


def _artifacts(folder: Path, settings: Settings) -> Iterator[Finding]:
    paths = artifact_paths(folder)
    if not paths:
        yield Finding("artifacts", "wrong", f"{folder} holds none: run `gatewave export`")
        return
    engine = _on_the_cpu(settings)
    sick = 0
    for path in paths:
        try:
            load(path, engine)
        except ServiceError as error:
            sick += 1
            yield Finding(path.name, "wrong", str(error))
    detail = f"{len(paths) - sick} of {len(paths)} in {folder} load and answer rightly"
    yield Finding("artifacts", "wrong" if sick else "ok", detail)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _print(findings: list[Finding]) -> None:
    table = output.table("", "", "", show_header=False)
    for finding in findings:
        mark = f"[{STYLES[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(mark, Text(finding.subject), Text(finding.detail))
    output.show(table)
