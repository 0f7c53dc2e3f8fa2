"""The program that a model is tried in, before the process that serves runs it.

It may crash, hang or ask for all memory: the kernel ends it then, and nothing but it. It reads a
`Job` on standard input, and writes a `Report` on standard output.
"""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path

from service.engine import CPU, Engine
from service.errors import ServiceError
from service.repository import config as configs
from service.repository import trial
from service.repository.folder import admit_version
from service.repository.job import Job, Report
from service.repository.model import opened

BESIDES = 512 << 20
"""The bytes that ONNX Runtime may take for what is not in its arena."""
COPIES = 4
"""How often a graph may be in memory while it is loaded: parsed, optimized, packed."""


def main() -> None:
    job = Job.model_validate_json(sys.stdin.buffer.read())
    _bound_time(job)
    try:
        report = tried(job)
    except (ServiceError, MemoryError) as error:
        report = Report(refused=str(error) or "it asks for more memory than there may be")
    sys.stdout.write(report.model_dump_json())


def tried(job: Job) -> Report:
    """What became of the model in this process.

    Raises:
        ModelRefused: It cannot be served.
    """
    folder = Path(job.folder)
    found, size = admit_version(Path(job.root), folder)
    engine = Engine.start(job.device, job.threads, job.arena_bytes)
    if engine.provider == CPU:  # a GPU's driver reserves more addresses than any bound
        bound_memory(job.arena_bytes + COPIES * size + BESIDES)
    model = opened(folder, engine, found.shaped)
    config = configs.parsed(job.config)
    trial.warm(model, config)
    batching, note = trial.batching(model, config)
    return Report(shaped=sorted(found.shaped), batched=batching is not None, note=note)


def _bound_time(job: Job) -> None:
    # Whoever started it looks at the clock too, a second earlier; but may be gone.
    seconds = int(job.seconds) + 1
    signal.alarm(seconds)
    # A library may take the signal for its own; nobody takes this from the kernel.
    processor = seconds * job.threads + 1
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bound_memory(more: int) -> None:
    """Let this process have so many bytes more than it has; then nothing."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
