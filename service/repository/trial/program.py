"""Program of the process that tries a model before the serving process opens it.

The process may crash, hang or exhaust its memory; the kernel ends it, and the service continues. It
reads a `TrialJob` from standard input, and writes each `TrialReport` as one line to standard
output: first whether the model can be served, then the same with the result of the check of
batching. That check may also crash or take too long; the first report remains valid.
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
from gatewave.service.repository.model import InProcessModel, open_model
from gatewave.service.repository.rowwise.analysis import unshown
from gatewave.service.repository.trial import batching, process_limits, warmup
from gatewave.service.repository.trial.messages import TrialJob, TrialReport
from gatewave.service.repository.trial.shapes import candidates

NO_WARMUP = "its configuration has warmup: off"


def main() -> None:
    job = TrialJob.model_validate_json(sys.stdin.buffer.read())
    process_limits.forbid_core_dumps()
    _limit_processor_time(job)
    _limit_time(job.seconds)
    try:
        model, config, report, graph = try_model(job)
    except (ServiceError, MemoryError) as error:
        needs = arena_needed(error, job.arena_bytes) or 0
        _send(TrialReport(refused=str(error) or process_limits.OUT_OF_MEMORY, needs=needs))
        return
    _send(report)
    # A new limit: the check of batching has its own time, which does not count against the model.
    _limit_time(job.batching_seconds)
    decided, note = batching.decide(model, config, unshown(graph), report.warmup)
    _send(report.model_copy(update={"batched": decided is not None, "note": note}))


def try_model(job: TrialJob) -> tuple[InProcessModel, Config, TrialReport, bytes]:
    """Load and run a model; return it with its configuration, its report and its graph.

    Raises:
        ModelRefused: The model cannot be served.
    """
    found, files = read_version(Path(job.root), Path(job.folder), job.max_bytes)
    engine = process_limits.start_engine(job, files.size)
    model = open_model(files, engine, found.shaped)
    config = configs.parse(job.config)
    shapes = warmup.warm_up(model, config, seconds=min(warmup.SEARCH_SECONDS, job.seconds / 2))
    hazard = hazard_of(files.model)
    if not hazard and config.warmup is None:
        hazard = NO_WARMUP
    is_default = config.warmup is None or shapes == next(candidates(model, config.warmup))
    report = TrialReport(
        warmup={} if is_default else shapes,
        shaped=sorted(found.shaped),
        digests=dict(files.digests),
        hazard=hazard,
    )
    return model, config, report, files.model


def _send(report: TrialReport) -> None:
    sys.stdout.write(f"{report.model_dump_json()}\n")
    sys.stdout.flush()


def _limit_time(seconds: float) -> None:
    # The service has the same limit, one second earlier. This one holds if the service has ended.
    signal.alarm(int(seconds) + 1)


def _limit_processor_time(job: TrialJob) -> None:
    # A library may handle SIGALRM. The kernel's limit on processor time cannot be intercepted: the
    # hard limit sends SIGKILL.
    seconds = (int(job.seconds) + int(job.batching_seconds) + 2) * job.threads + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


if __name__ == "__main__":
    main()
