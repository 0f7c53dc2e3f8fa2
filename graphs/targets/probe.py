"""Probe of the installed ONNX Runtime with tiny models, for the target ``this``.

About a thousand models run in a worker, which one of them may crash. The results are kept in the
user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from gatewave.graphs.files import scratch
from gatewave.graphs.processes import messages
from gatewave.graphs.processes.client import OWN_PYTHON, WORKER
from gatewave.graphs.processes.errors import Lost, Refused
from gatewave.graphs.targets import probe_models
from gatewave.graphs.targets.probe_client import HANDLERS, ProbeClient
from gatewave.graphs.targets.probe_models import Probed
from gatewave.models import DType

ProbeOutcome = Literal["runs", "wrong", "refused", "crashed"]

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
IR_VERSIONS = tuple(range(8, 15))
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")

SOURCES = tuple(Path(str(f)) for f in (probe_models.__file__, HANDLERS, WORKER, messages.__file__))
"""Files that shape the results: if one changes, the cached results are out of date."""

CLOSE: dict[DType, float] = {"float16": 2e-2, "bfloat16": 6e-2, "float32": 1e-3, "float64": 1e-3}
"""Tolerance of a result, relative and absolute: contributed operators round their constants."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Result of one model."""

    operator: str
    dtype: DType
    opset: int
    ir: int
    provider: str
    outcome: ProbeOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Results of a runtime for all models.

    Attributes:
        version: ONNX Runtime's own.
        providers: Providers that were tried.
        rows: Results in the order in which the models were tried.
    """

    version: str
    providers: tuple[str, ...]
    rows: tuple[ProbeResult, ...]


def probe(folder: Path | None = None, python: Path = OWN_PYTHON) -> Answer:
    """Return the results of the installed runtime, from the cache in ``folder`` if it has them.

    A folder that cannot be written is ignored; a damaged file in it is replaced.

    Args:
        folder: Folder of the cache; by default the user's.
        python: Interpreter that imports the runtime.

    Raises:
        TargetError: There is no ONNX Runtime, or it does not start.
    """
    path = (folder or cache_folder()) / f"probe-{_key()}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _read(path)
    answer = ask(python)
    with contextlib.suppress(OSError):
        _write(path, answer)
    return answer


def cache_folder() -> Path:
    """Return the cache folder of the XDG base directory specification."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (
        Path(given) if Path(given).is_absolute() else Path("~/.cache").expanduser()
    ) / "gatewave"


def _key() -> str:
    """Return the name of the results: they depend on the runtime, Gatewave, and the models."""
    import onnxruntime as ort  # noqa: PLC0415 - it may be missing; the worker then says so

    parts = [
        ort.__version__,
        *ort.get_available_providers(),
        *(f"{name}={_version(name)}" for name in (*RUNTIMES, "gatewave")),
        *(hashlib.sha256(source.read_bytes()).hexdigest() for source in SOURCES),
        sys.platform,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _read(path: Path) -> Answer:
    stored = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(ProbeResult(**row) for row in stored["rows"])
    return Answer(str(stored["version"]), tuple(stored["providers"]), rows)


def _write(path: Path, answer: Answer) -> None:
    """Write the file in one step, since another process may read it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch.folder_in(path.parent) as beside:
        part = beside / path.name
        part.write_text(json.dumps(asdict(answer)), encoding="utf-8")
        part.replace(path)


def ask(python: Path) -> Answer:
    """Run every model in the ONNX Runtime that ``python`` imports.

    Raises:
        TargetError: It has no ONNX Runtime, or the runtime does not start.
    """
    with ProbeClient(python) as client:
        about = client.about
        providers = tuple(name for name in PROVIDERS if name in about["providers"])
        rows = tuple(
            _tried(client, probed, row, content) for probed, row, content in _requests(providers)
        )
    return Answer(about["version"], providers, rows)


def _requests(providers: Iterable[str]) -> Iterator[tuple[Probed, ProbeResult, bytes]]:
    made = [
        (probed, dtype, opset, probe_models.content(probed, dtype, opset))
        for probed, dtype, opset in probe_models.cells()
    ]
    for provider in providers:
        for probed, dtype, opset, content in made:
            ir = probe_models.ir_of(opset)
            yield probed, ProbeResult(str(probed), dtype, opset, ir, provider, "runs"), content
        for ir in IR_VERSIONS:
            content = probe_models.content(PLAIN, "float32", probe_models.OLDEST, ir)
            row = ProbeResult(str(PLAIN), "float32", probe_models.OLDEST, ir, provider, "runs")
            yield PLAIN, row, content


PLAIN = Probed(("", "Abs"))
"""Operator that every runtime has, for probing opsets and file formats."""


def _tried(client: ProbeClient, probed: Probed, row: ProbeResult, content: bytes) -> ProbeResult:
    """Return ``row`` with the outcome of its model."""
    try:
        got = client.run(content, row.provider).ravel().tolist()
    except Lost:
        return replace(row, outcome="crashed", detail="the process ended")
    except Refused as error:
        return replace(row, outcome="refused", detail=error.message)
    want = probe_models.expected(probed)
    close = len(got) == len(want) and all(
        math.isclose(g, w, rel_tol=CLOSE[row.dtype], abs_tol=CLOSE[row.dtype])
        for g, w in zip(got, want, strict=True)
    )
    if close:
        return row
    return replace(row, outcome="wrong", detail=f"expected {want}, got {tuple(got)}")
