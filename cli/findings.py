"""Findings of `gatewave doctor`: versions, ONNX Runtime, CUDA, kernels and artifacts."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from gatewave.service.activations.artifact import artifact_paths, load
from gatewave.service.errors import DeviceUnavailable, ServiceError
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import CUDA
from gatewave.service.settings import Settings
from gatewave.service.system import cpus

FindingVerdict = Literal["ok", "note", "wrong"]

PACKAGES = ("gatewave", "fastapi", "uvicorn", "pydantic", "numpy")
OPTIONAL_PACKAGES = {"onnx": "graphs", "torch": "export"}
"""Extras that install these packages."""

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
"""Distributions that all install the module ``onnxruntime``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """State of one part of the installation."""

    subject: str
    verdict: FindingVerdict
    detail: str


def findings(artifacts: Path | None) -> Iterator[Finding]:
    """Yield the findings; ``artifacts`` is the folder of the settings by default."""
    settings = Settings()
    yield from _versions()
    yield from _runtimes()
    yield from _cuda()
    yield from _device(settings)
    yield from _kernels(settings)
    yield from _artifacts(artifacts or settings.artifacts, settings)


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for name in (*PACKAGES, *OPTIONAL_PACKAGES):
        if version := _version(name):
            yield Finding(name, "ok", version)
        else:
            detail = f"not installed; only the extra {OPTIONAL_PACKAGES.get(name)} has it"
            yield Finding(name, "note", detail)
    yield Finding("processors", "ok", f"{cpus.available()} available to this process")


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
    """Return the major version of CUDA that the driver supports, if there is a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000  # CUDA encodes 12.4 as 12040


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
    """Return the wanted device, or the CPU if it does not work, with the kernels for it."""
    try:
        device = Engine.start(settings.device, settings.threads, kernels="function")
    except DeviceUnavailable:
        device = Engine.start("cpu", settings.threads, kernels="function")
    return device.using(settings.kernels, settings.kernels_instructions)


def _on_the_cpu(settings: Settings) -> Engine:
    """Return the CPU, with the wanted kernels if they load; `_kernels` has the reason if not."""
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
    broken = 0
    for path in paths:
        try:
            load(path, engine)
        except ServiceError as error:
            broken += 1
            yield Finding(path.name, "wrong", str(error))
    detail = f"{len(paths) - broken} of {len(paths)} in {folder} load and give the right results"
    yield Finding("artifacts", "wrong" if broken else "ok", detail)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
