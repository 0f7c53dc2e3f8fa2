"""Having a model tried in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

from pydantic import ValidationError

from service.errors import ModelRefused
from service.repository.job import Job, Report

PROGRAM = "service.repository.verify"
PREFIX = "GATEWAVE_"
"""What the service's own variables begin with: keys are among them."""


async def verified(job: Job) -> Report:
    """What the trial found.

    Raises:
        ModelRefused: The model cannot be served; or it crashed, or took too long.
    """
    environment = {n: value for n, value in os.environ.items() if not n.startswith(PREFIX)}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", PROGRAM, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
        )
    except OSError as error:
        raise ModelRefused(f"its trial cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(job.seconds):
            answer, _ = await process.communicate(job.model_dump_json().encode())
    except TimeoutError as error:
        raise ModelRefused(f"its trial took more than {job.seconds:g} seconds") from error
    finally:
        await _ended(process)
    return _report(answer, process.returncode or 0)


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.communicate()


def _report(answer: bytes, status: int) -> Report:
    if status < 0:
        raise ModelRefused(f"its trial was ended by {signal.Signals(-status).name}")
    try:
        report = Report.model_validate_json(answer)
    except ValidationError as error:
        raise ModelRefused(f"its trial ended with status {status}") from error
    if report.refused:
        raise ModelRefused(report.refused)
    return report
