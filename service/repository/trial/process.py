"""Process of a trial: started, asked, limited in time, and ended by the serving process.

A process, because a graph can crash ONNX Runtime or never end, and a thread cannot be ended.

* ModelRefused        the model cannot be served
  - TrialUnfinished   the trial took too long, or the machine had no room for it
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import cast

from pydantic import ValidationError

from gatewave.service.errors import ModelRefused
from gatewave.service.repository.trial.batching import not_batched
from gatewave.service.repository.trial.messages import TrialJob, TrialReport
from gatewave.service.system.memory import available

PROGRAM = "gatewave.service.repository.trial.program"
PRIVATE_PREFIXES = ("GATEWAVE_", "PROMETHEUS_MULTIPROC_")
"""Prefixes of environment variables of the service, which include its keys."""

ARENA_STEP = 1 << 24
"""Bytes (16 MiB) of which the sizes of larger arenas are multiples."""
MAX_ARENA_SHARE = 0.5
"""Largest arena to try, as a share of the available memory: the service needs the rest."""
MAX_ARENAS = 12
"""Number of larger arenas to try; each size grows by a quarter, so that 12 span a factor of 11."""

MAX_REPORT_BYTES = 1 << 26
CRASH_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
)
"""Signals by which a graph ends its process. Others come from the time limit, or from the kernel
when the machine has no memory left: they say nothing about the model."""


class TrialUnfinished(ModelRefused):
    """The trial ended without a result; another may have one."""


async def run_trial(job: TrialJob) -> TrialReport:
    """Try a model in a process of its own; return the report on it.

    The check of batching may fail in any way: the model is then served without batching.

    Raises:
        ModelRefused: The model cannot be served, or crashed.
        TrialUnfinished: The trial took too long, or could not be started.
    """
    process = await _start()
    try:
        report = await _first_report(process, job)
        if not report.refused:
            return await _second_report(process, job, report)
    finally:
        await _end(process)
    note = await _sufficient_arena(job, report.needs) if report.needs else ""
    raise ModelRefused(report.refused + note)


async def _sufficient_arena(job: TrialJob, needs: int) -> str:
    """Try larger arenas until the model runs; return a note with the size that it needs.

    Args:
        job: A trial that failed because the arena was too small.
        needs: Bytes that the arena must have at least.
    """
    limit = available() * MAX_ARENA_SHARE
    for _ in range(MAX_ARENAS):
        size = -(-needs // ARENA_STEP) * ARENA_STEP
        if size > limit:
            break
        process = await _start()
        try:
            report = await _first_report(process, job.model_copy(update={"arena_bytes": size}))
        except ModelRefused:
            break
        finally:
            await _end(process)
        if not report.needs:
            result = f" it is still refused: {report.refused}" if report.refused else " it runs"
            return f"; with GATEWAVE_ARENA_BYTES={size}{result}"
        needs = max(report.needs, size + size // 4)
    return f"; it needs GATEWAVE_ARENA_BYTES={needs} or more, and has {job.arena_bytes}"


def public_environment() -> dict[str, str]:
    """Return the environment variables of a process that runs a model: without the service's."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(PRIVATE_PREFIXES)
    }


async def _start() -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=MAX_REPORT_BYTES,
            env=public_environment(),
        )
    except OSError as error:
        raise TrialUnfinished(f"the trial cannot be started: {error.strerror}") from error


async def _first_report(process: Process, job: TrialJob) -> TrialReport:
    """Send the job; return the report on loading and running, which may refuse the model.

    Raises:
        ModelRefused: The model crashed.
        TrialUnfinished: The trial took too long, or was ended.
    """
    try:
        async with asyncio.timeout(job.seconds):
            await _send(process, job)
            report = await _receive(process)
    except TimeoutError as error:
        raise TrialUnfinished(f"the trial took more than {job.seconds:g} seconds") from error
    if isinstance(report, int):
        has_crashed = report < 0 and -report in CRASH_SIGNALS
        raise (ModelRefused if has_crashed else TrialUnfinished)(f"the trial {end_of(report)}")
    return report


async def _second_report(process: Process, job: TrialJob, first: TrialReport) -> TrialReport:
    """Return the report with the check of batching; if that fails, ``first`` with the reason."""
    try:
        async with asyncio.timeout(job.batching_seconds):
            report = await _receive(process)
    except TimeoutError:
        reason = f"the check took more than {job.batching_seconds:g} seconds"
        return _unbatched(first, reason)
    return _unbatched(first, f"the check {end_of(report)}") if isinstance(report, int) else report


def _unbatched(report: TrialReport, reason: str) -> TrialReport:
    return report.model_copy(update={"note": not_batched(reason)})


async def _send(process: Process, job: TrialJob) -> None:
    stdin = cast("asyncio.StreamWriter", process.stdin)
    stdin.write(job.model_dump_json().encode())
    # A process that has ended already does not read; its exit status is reported instead.
    with contextlib.suppress(ConnectionError):
        await stdin.drain()
    stdin.close()


async def _receive(process: Process) -> TrialReport | int:
    """Return the next report, or the exit status of a process that ended without one."""
    answer = await cast("asyncio.StreamReader", process.stdout).readline()
    try:
        return TrialReport.model_validate_json(answer)
    except ValidationError:
        return await process.wait()


def end_of(status: int) -> str:
    """Return in words how a process ended, by its exit status."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()
