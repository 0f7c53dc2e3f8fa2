"""Process of a trial: its ends, its environment and its limits."""

import asyncio
import signal
import subprocess
import sys

import pytest
from onnx_models import endless, put, trial_job, unary

from gatewave.service.errors import ModelRefused
from gatewave.service.repository.trial.messages import TrialReport
from gatewave.service.repository.trial.process import run_trial


def test_a_crash_of_the_trial_is_reported(root, tmp_path, monkeypatch):
    """Another program takes the place of Python and crashes, as ONNX Runtime may."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\ncat > /dev/null\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ModelRefused, match=f"ended by {signal.SIGSEGV.name}"):
        asyncio.run(run_trial(trial_job(root)))
    program.write_text("#!/bin/sh\ncat > /dev/null\necho nonsense\nexit 3\n")
    with pytest.raises(ModelRefused, match="ended with status 3"):
        asyncio.run(run_trial(trial_job(root)))
    program.unlink()
    with pytest.raises(ModelRefused, match="cannot be started: No such file"):
        asyncio.run(run_trial(trial_job(root)))


SERVED = 'echo "{\\"shaped\\": [\\"x\\"]}"'


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("kill -SEGV $$", "the check was ended by SIGSEGV"),
        ("exit 3", "the check ended with status 3"),
        ("exec sleep 60", "the check took more than 0.2 seconds"),
    ],
)
def test_an_unfinished_check_leaves_the_model_unbatched(root, tmp_path, monkeypatch, then, why):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{SERVED}\n{then}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    report = asyncio.run(run_trial(trial_job(root, batching_seconds=0.2)))
    assert report == TrialReport(shaped=["x"], batched=False, note=f"not batched: {why}")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (endless("others"), "the check took more than 1 seconds"),
        (unary("Neg", ("n", 1 << 16)), "Unable to allocate 32.0 GiB"),
    ],
    ids=["time", "memory"],
)
def test_a_model_that_cannot_compute_many_rows_is_unbatched(root, made, why):
    config = "batching: {max_size: 65536}"
    put(root, "m", "1", made, config)
    report = asyncio.run(run_trial(trial_job(root, config=config, batching_seconds=1)))
    assert not report.refused
    assert not report.batched
    assert f"not batched: {why}" in report.note


def test_a_trial_does_not_see_the_keys(root, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\nenv > {tmp_path}/seen\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("GATEWAVE_KEYS", "infer:secret")
    monkeypatch.setenv("OTHER", "thing")
    with pytest.raises(ModelRefused):
        asyncio.run(run_trial(trial_job(root)))
    seen = (tmp_path / "seen").read_text()
    assert "OTHER=thing" in seen
    assert "GATEWAVE" not in seen


def test_a_trial_without_its_service_ends_in_time(root):
    """The service is not there to end the trial, therefore the trial's own timer does."""
    put(root, "m", "1", endless())

    async def scenario():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gatewave.service.repository.trial.program"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await process.communicate(trial_job(root, seconds=2).model_dump_json().encode())
        return process.returncode

    assert asyncio.run(scenario()) == -signal.SIGALRM


def test_the_memory_of_a_trial_is_limited():
    program = (
        "from gatewave.service.repository.trial import process_limits\n"
        "process_limits.limit_memory(1 << 26); b' ' * (1 << 28)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert b"MemoryError" in ended.stderr
