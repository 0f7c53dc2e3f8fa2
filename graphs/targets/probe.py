"""Probe of the installed ONNX Runtime with tiny models, for the target ``this``.

Each model runs in a process of its own kind, since a bad one may take the process with it. The
answer is kept in the user's cache folder, for the same runtime and the same models.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from gatewave.graphs.errors import TargetError
from gatewave.graphs.files import scratch
from gatewave.graphs.processes.subprocesses import Ended, Process
from gatewave.graphs.targets import probe_models, probe_worker
from gatewave.graphs.targets.probe_models import Probed
from gatewave.models import DType

ProbeOutcome = Literal["runs", "wrong", "refused", "crashed"]

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
IR_VERSIONS = tuple(range(8, 15))
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
SECONDS = 60.0
"""Time that the worker may take for one answer: a large model takes some to be loaded."""

CLOSE: dict[DType, float] = {"float16": 2e-2, "bfloat16": 6e-2, "float32": 1e-3, "float64": 1e-3}
"""Relative tolerance of an answer: contributed operators round their constants."""


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


def probe(folder: Path | None = None, python: Path = Path(sys.executable)) -> Answer:
    """Return the results of the installed runtime, from the cache in ``folder`` if it has them.

    ``python`` is what imports it. A folder that cannot be written is done without, and a file in it
    that is damaged is replaced.

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
    """Another runtime, another Gatewave, or other models: another answer."""
    import onnxruntime as ort  # noqa: PLC0415 - there may be none; the worker then says so

    parts = [
        ort.__version__,
        *ort.get_available_providers(),
        *(f"{name}={_version(name)}" for name in (*RUNTIMES, "gatewave")),
        *map(_source, (probe_models, probe_worker)),
        sys.platform,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _source(module: Any) -> str:
    return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()


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
    """Whole, or not at all: another process may read it meanwhile."""
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
    with ProbeWorker(python) as first:
        about = first.about
    providers = tuple(name for name in PROVIDERS if name in about["providers"])
    rows = tuple(_rows(python, providers))
    return Answer(about["version"], providers, rows)


def _rows(python: Path, providers: Sequence[str]) -> Iterator[ProbeResult]:
    """A row for each model; the worker is replaced where a model brought it down."""
    waiting = deque(_requests(providers))
    while waiting:
        with ProbeWorker(python) as worker:
            answer: dict[str, Any] | None = {}
            while waiting and answer is not None:
                probed, row, content = waiting.popleft()
                answer = worker.run(content, row.provider)
                yield _judged(probed, row, answer)


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


def _judged(probed: Probed, row: ProbeResult, answer: dict[str, Any] | None) -> ProbeResult:
    outcome, detail = _outcome(probed, row.dtype, answer)
    return ProbeResult(row.operator, row.dtype, row.opset, row.ir, row.provider, outcome, detail)


def _outcome(
    probed: Probed, dtype: DType, answer: dict[str, Any] | None
) -> tuple[ProbeOutcome, str]:
    if answer is None:
        return "crashed", "the process ended"
    if "refused" in answer:
        return "refused", str(answer["refused"])
    want = probe_models.expected(probed)
    got = answer["values"]
    close = len(got) == len(want) and all(
        math.isclose(g, w, rel_tol=CLOSE[dtype], abs_tol=CLOSE[dtype])
        for g, w in zip(got, want, strict=True)
    )
    return ("runs", "") if close else ("wrong", f"expected {want}, got {tuple(got)}")


class ProbeWorker:
    """A process that loads and runs models, one after the other.

    Args:
        python: Interpreter that imports the runtime; a test may pass another program.
        seconds: Limit on its start, and on each answer.

    Attributes:
        about: The runtime's description of itself.
        ended: Description of the process's end, once it has ended.
    """

    def __init__(self, python: Path, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process = Process([str(python), "-P", str(probe_worker.__file__)], _variables(python))
        self.ended = ""

    def start(self) -> Self:
        """Wait until it has imported the runtime.

        Raises:
            TargetError: The process does not start.
        """
        about = self._answer(None)
        if about is None:
            self.close()
            raise TargetError("target this: ONNX Runtime does not start; try `gatewave doctor`")
        self.about = about
        return self

    def close(self) -> None:
        self._process.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, content: bytes, provider: str, *inputs: Any) -> dict[str, Any] | None:
        """The worker's answer; None if it ended without one.

        Args:
            content: A model with one output.
            provider: Provider that runs it.
            inputs: Arrays, in the order of the model's inputs; the probe's values, for all, if none
                are given.
        """
        given = [np.asarray(array) for array in inputs]
        request = {
            "model": base64.b64encode(content).decode(),
            "provider": provider,
            "inputs": [(list(a.shape), a.astype(np.float64).ravel().tolist()) for a in given],
            "values": probe_models.VALUES,
        }
        return self._answer(request)

    def load(
        self, model: bytes | Path, provider: str, *, optimised: bool = True
    ) -> dict[str, Any] | None:
        """Have the model loaded, and not run; return the answer, None if the process ended."""
        where = (
            {"path": str(model.absolute())}
            if isinstance(model, Path)
            else {"model": base64.b64encode(model).decode()}
        )
        return self._answer({**where, "provider": provider, "load": True, "optimised": optimised})

    def schemas(self) -> list[dict[str, Any]]:
        """Return the schemas of the operators that the runtime itself defines."""
        answer = self._answer({"schemas": True})
        if answer is None:
            raise TargetError(f"the schemas of the operators cannot be read: {self.ended}")
        return list(answer["schemas"])

    def _answer(self, request: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Ask, unless the process has ended, and return the answer."""
        if self.ended:
            return None
        try:
            with self._process.answering(self._seconds):
                if request is not None:
                    self._process.requests.write(json.dumps(request).encode() + b"\n")
                    self._process.requests.flush()
                line = self._process.answers.readline()
                if not line:
                    raise EOFError
        except Ended as error:
            self.ended = str(error)
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer


def _variables(python: Path) -> dict[str, str]:
    """The environment variables of the worker: another Python is not given our modules."""
    own = set() if python == Path(sys.executable) else {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}
