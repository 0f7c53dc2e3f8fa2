"""Writing of rewritten models: a file is replaced only after a verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from gatewave.graphs.errors import NotRunnableError, VerificationError
from gatewave.graphs.files import files
from gatewave.graphs.verify.report import Report
from gatewave.graphs.verify.runners import WORDS, Task, choose, onnxruntime_loads
from gatewave.graphs.verify.verification_plan import VerificationPlan
from gatewave.graphs.verify.verifier import DEFAULT, verify


class DiffersError(VerificationError):
    """A rewritten model with a difference from its original; its ``report`` has the reason."""

    def __init__(self, report: Report) -> None:
        verdict = "differs" if report.verdict == "different" else f"was {report.verdict}"
        super().__init__(f"{report.original}, rewritten, {verdict}: {report.summary()}")
        self.report = report


def write_verified(
    model: ir.Model,
    path: Path,
    *,
    source: Path,
    sites: Sequence[str] = (),
    plan: VerificationPlan = DEFAULT,
) -> Report:
    """Write ``model`` to ``path`` if no difference from ``source`` is found.

    It is verified as a file, complete with its data, before it takes its place: see
    `files.write`. If it differs, ``path`` and its folder are as they were.

    Args:
        model: The model in ``source``, rewritten.
        path: Target file.
        source: The original.
        sites: Names of new values that are compared too.
        plan: Settings of the verification; its own sites are compared as well.

    Raises:
        DiffersError: The two differ; the error has the report.
        NotRunnableError: No runtime runs the original, so the two cannot be compared.
        ModelError: See `files.write`.
        NotWrittenError: See `files.write`.
    """
    reports: list[Report] = []
    whole = replace(plan, sites=[*plan.sites, *sites])

    def check(new: Path) -> None:
        reports.append(replace(require(source, new, whole), rewritten=str(path)))

    files.write(model, path, source=source, check=check)
    return reports[0]


def write_unchanged(path: Path, *, source: Path, plan: VerificationPlan = DEFAULT) -> Report:
    """Write the model in ``source`` to ``path`` again, as no node of it was changed.

    No model is run. With ``plan.native`` it is loaded by the installed ONNX Runtime.

    Raises:
        NotRunnableError: ONNX Runtime does not load it, and ``plan.native`` asks for that.
        ModelError: See `files.write`.
        NotWrittenError: See `files.write`.
    """

    def check(new: Path) -> None:
        if plan.native:
            choose(Task(new, plan.kernels, plan.timeout), ["onnxruntime"]).runner.close()

    files.write(files.read(source), path, source=source, check=check)
    return Report(str(source), str(path), plan.seed, unchanged=True)


def write_running(
    model: ir.Model, path: Path, *, source: Path, plan: VerificationPlan = DEFAULT
) -> Report:
    """Write ``model``, which computes another function than ``source``, if it runs.

    Its results with the kernels must be those without. If ONNX Runtime runs ``source``, it must run
    ``model`` as well: the reference evaluator is not enough then.

    Raises:
        DiffersError: Its results with the kernels differ.
        NotRunnableError: No runtime runs it, or the runtime of ``source`` does not.
        ModelError: See `files.write`.
        NotWrittenError: See `files.write`.
    """
    reports: list[Report] = []

    def check(new: Path) -> None:
        report = replace(require(new, new, plan), original=str(path), rewritten=str(path))
        slow = [ran for ran in report.ran if ran.runtime == WORDS["reference"]]
        if slow and onnxruntime_loads(Task(source, plan.kernels, plan.timeout)):
            raise NotRunnableError(f"{source} was run by ONNX Runtime, but now: {slow[0].why}")
        reports.append(report)

    files.write(model, path, source=source, check=check)
    return reports[0]


def require(original: Path, rewritten: Path, plan: VerificationPlan = DEFAULT) -> Report:
    """Return the report that no difference of ``rewritten`` from ``original`` was found.

    Raises:
        DiffersError: A difference was found.
        NotRunnableError: No runtime runs the original.
    """
    report = verify(original, rewritten, plan)
    if not report.holds:
        raise DiffersError(report)
    return report
