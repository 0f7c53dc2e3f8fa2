"""The program that a model is tried in, before the process that serves runs it.

It may crash, hang or ask for all memory: the kernel ends it then, and nothing but it. It reads a
`Job` on standard input, and writes a `Report` on a line of standard output: that the model can be
served, or why not. Whether batching is exact may take all that it is given too, and is in a second
line.
"""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path

from gatewave.service.errors import ServiceError
from gatewave.service.onnx.arena import arena_needed
from gatewave.service.repository import config as configs
from gatewave.service.repository.config import Config
from gatewave.service.repository.files import read_version
from gatewave.service.repository.hazards import hazard_of
from gatewave.service.repository.model import RepositoryModel, opened
from gatewave.service.repository.rowwise.analysis import unshown
from gatewave.service.repository.trial import bounds, trial
from gatewave.service.repository.trial.job import Job, Report
from gatewave.service.repository.trial.sizes import candidates

UNTRIED = "its configuration has warmup: off"


def main() -> None:
    job = Job.model_validate_json(sys.stdin.buffer.read())
    bounds.forbid_core_dumps()
    _bound_processor(job)
    _bound_time(job.seconds)
    try:
        model, config, report, graph = tried(job)
    except (ServiceError, MemoryError) as error:
        needs = arena_needed(error, job.arena_bytes) or 0
        _tell(Report(refused=str(error) or bounds.SCARCE, needs=needs))
        return
    _tell(report)
    _bound_time(job.proof_seconds)
    batching, note = trial.batching(model, config, unshown(graph), report.warmup)
    _tell(report.model_copy(update={"batched": batching is not None, "note": note}))


def tried(job: Job) -> tuple[RepositoryModel, Config, Report, bytes]:
    """Return the model, run in this process, its report so far, and its graph.

    Raises:
        ModelRefused: The model cannot be served.
    """
    folder = Path(job.folder)
    found, files = read_version(Path(job.root), folder, job.most_bytes)
    model = opened(files, bounds.start(job, files.size), found.shaped)
    config = configs.parsed(job.config)
    shapes = trial.warm(model, config, seconds=min(trial.SECONDS_OF_SEARCH, job.seconds / 2))
    hazard = hazard_of(files.model)
    if not hazard and config.warmup is None:
        hazard = UNTRIED
    is_usual = config.warmup is None or shapes == next(candidates(model, config.warmup))
    report = Report(
        warmup={} if is_usual else shapes,
        shaped=sorted(found.shaped),
        digests=dict(files.digests),
        hazard=hazard,
    )
    return model, config, report, files.model


def _tell(report: Report) -> None:
    sys.stdout.write(f"{report.model_dump_json()}\n")
    sys.stdout.flush()


def _bound_time(seconds: float) -> None:
    # Whoever started it looks at the clock too, a second earlier; but may be gone.
    signal.alarm(int(seconds) + 1)


def _bound_processor(job: Job) -> None:
    # A library may take the signal of the clock for its own; nobody takes this from the kernel.
    seconds = (int(job.seconds) + int(job.proof_seconds) + 2) * job.threads + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


if __name__ == "__main__":
    main()
