"""Having a model tried in a process of its own.

* ModelRefused        the model cannot be served
  - TrialUnfinished   nothing is known of it: it took too long, or the machine had no room for it
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
from gatewave.service.repository.trial.job import Job, Report
from gatewave.service.repository.trial.trial import unbatched
from gatewave.service.system.memory import available

PROGRAM = "gatewave.service.repository.trial.verify"
PREFIXES = ("GATEWAVE_", "PROMETHEUS_MULTIPROC_")
"""Prefixes of the service's own variables, which include its keys."""

ARENA_STEP = 1 << 24
"""Larger arenas are tried in multiples of 16 MiB."""
LARGEST_SHARE = 0.5
"""Share of the memory up to which larger arenas are tried: the service needs some meanwhile."""
MAX_ARENAS = 12

LONGEST_REPORT = 1 << 26
CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
"""The signals by which a graph ends its process; others come from the clock, or the kernel."""


class TrialUnfinished(ModelRefused):
    """The trial came to no end that says anything of the model: another may."""


async def verified(job: Job) -> Report:
    """What the trial found.

    A proof that batching is exact may fail in any way, and the model is served without.

    Raises:
        ModelRefused: The model cannot be served, or it crashed.
        TrialUnfinished: It took too long, or could not be tried.
    """
    process = await _started()
    try:
        report = await _tried(process, job)
        if not report.refused:
            return await _proved(process, job, report)
    finally:
        await _ended(process)
    note = await _sufficient(job, report.needs) if report.needs else ""
    raise ModelRefused(report.refused + note)


async def _sufficient(job: Job, needs: int) -> str:
    """Return how large an arena the model runs with, as a note; larger ones are tried for it.

    Args:
        job: A trial that failed because the arena was too small.
        needs: Bytes that the arena must have, at least.
    """
    most = available() * LARGEST_SHARE
    for _ in range(MAX_ARENAS):
        size = -(-needs // ARENA_STEP) * ARENA_STEP
        if size > most:
            break
        process = await _started()
        try:
            report = await _tried(process, job.model_copy(update={"arena_bytes": size}))
        except ModelRefused:
            break
        finally:
            await _ended(process)
        if not report.needs:
            why = f" it is still refused: {report.refused}" if report.refused else " it runs"
            return f"; with GATEWAVE_ARENA_BYTES={size}{why}"
        needs = max(report.needs, size + size // 4)
    return f"; it needs GATEWAVE_ARENA_BYTES={needs} or more, and has {job.arena_bytes}"


def clean_environment() -> dict[str, str]:
    """Return the environment variables of a process that runs a model."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}


async def _started() -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=LONGEST_REPORT,
            env=clean_environment(),
        )
    except OSError as error:
        raise TrialUnfinished(f"its trial cannot be started: {error.strerror}") from error


async def _tried(process: Process, job: Job) -> Report:
    """Return the first report on the model, which may refuse it.

    Raises:
        ModelRefused: It crashed.
        TrialUnfinished: It took too long, or was ended.
    """
    try:
        async with asyncio.timeout(job.seconds):
            await _ask(process, job)
            report = await _report(process)
    except TimeoutError as error:
        raise TrialUnfinished(f"its trial took more than {job.seconds:g} seconds") from error
    if isinstance(report, int):
        crashed = report < 0 and -report in CRASHES
        raise (ModelRefused if crashed else TrialUnfinished)(f"its trial {end_of(report)}")
    return report


async def _proved(process: Process, job: Job, tried: Report) -> Report:
    try:
        async with asyncio.timeout(job.proof_seconds):
            report = await _report(process)
    except TimeoutError:
        return _without(tried, f"its proof took more than {job.proof_seconds:g} seconds")
    return _without(tried, f"its proof {end_of(report)}") if isinstance(report, int) else report


def _without(tried: Report, why: str) -> Report:
    """The report on a model that is served without batching."""
    return tried.model_copy(update={"note": unbatched(why)})


async def _ask(process: Process, job: Job) -> None:
    stdin = cast("asyncio.StreamWriter", process.stdin)
    stdin.write(job.model_dump_json().encode())
    # Whoever does not listen has something else to say, or has ended.
    with contextlib.suppress(ConnectionError):
        await stdin.drain()
    stdin.close()


async def _report(process: Process) -> Report | int:
    """The next report; or with what status the process ended without."""
    answer = await cast("asyncio.StreamReader", process.stdout).readline()
    try:
        return Report.model_validate_json(answer)
    except ValidationError:
        return await process.wait()


def end_of(status: int) -> str:
    """Return how a process ended, by its exit status."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()
