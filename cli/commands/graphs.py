"""Reading, verification, writing and reports of the models that commands rewrite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from gatewave.cli.commands import output
from gatewave.cli.errors import CommandError, needing

if TYPE_CHECKING:
    import onnx_ir as ir

    from gatewave.cli.commands.targeting import Assessment
    from gatewave.graphs.rewrite.outcome import Change, Outcome
    from gatewave.graphs.verify.report import Report
    from gatewave.graphs.verify.verification_plan import VerificationPlan


@dataclass(frozen=True)
class RunOnly:
    """Result of running a model that computes another function and is therefore not compared.

    Attributes:
        run_by: The runtimes that ran it, in words; empty if it was not tried.
        notes: Notes on the written model.
    """

    run_by: Sequence[str] = ()
    notes: Sequence[str] = ()

    def words(self) -> str:
        run = f"run by {' and '.join(self.run_by)}" if self.run_by else "not run"
        return f"another function, so not compared; {run}"


def read(path: Path) -> ir.Model:
    """The model in the file ``path``.

    Raises:
        ModelError: There is no such file, or it holds no sound model.
        ExtraMissing: onnx is not installed.
    """
    with needing("export"):
        from gatewave.graphs.files import files
    return files.read(path)


def write_verified(
    model: ir.Model, path: Path, *, source: Path, changes: Sequence[Change], plan: VerificationPlan
) -> Report:
    """Write ``model`` if it computes the same as ``source``; without a change, no model is run.

    Raises:
        VerificationError: It differs, and is not written.
        CommandError: No runtime runs ``source``.
    """
    from gatewave.graphs.errors import NotRunnableError
    from gatewave.graphs.verify import verified_files

    try:
        if not changes:
            return verified_files.write_unchanged(path, source=source, plan=plan)
        with Console(stderr=True).status("running both models", spinner="dots"):
            plan = replace(plan, local=True)
            return verified_files.write_verified(model, path, source=source, plan=plan)
    except NotRunnableError as error:
        raise CommandError(f"{error}; --no-verify writes it untried") from error


def write_running(model: ir.Model, path: Path, *, source: Path, plan: VerificationPlan) -> RunOnly:
    """Write ``model`` if it runs on generated inputs, on ONNX Runtime if that runs ``source``.

    Raises:
        VerificationError: The kernels and the bodies differ; it is not written.
        NotRunnableError: No runtime runs it, or that of ``source`` does not; it is not written.
    """
    from gatewave.graphs.verify import verified_files

    with Console(stderr=True).status("running the model", spinner="dots"):
        report = verified_files.write_running(model, path, source=source, plan=plan)
    return RunOnly([*dict.fromkeys(ran.runtime for ran in report.ran)])


def say(
    written: Path,
    outcome: Outcome,
    report: Report | None,
    *,
    assessment: Assessment | None = None,
    tried: RunOnly | None = None,
    as_json: bool,
) -> None:
    """Print the changed and the unchanged activations, as text or as JSON.

    Args:
        written: The file.
        outcome: The changes, and the activations that were left unchanged.
        report: The comparison with the original, if there was one.
        assessment: The verdict for the target.
        tried: Result of running a model that computes another function.
        as_json: Print JSON.
    """
    changes, skipped = outcome.changes, outcome.skipped
    if as_json:
        document = {
            "written": str(written),
            **({} if assessment is None else {"target": assessment.target}),
            "changes": [asdict(change) for change in changes],
            "skipped": [asdict(left) for left in skipped],
            **({} if assessment is None else {"judged": assessment.document()}),
            "verified": None if report is None else report.as_dict(),
            **({} if tried is None else {"run_by": tried.run_by, "notes": tried.notes}),
        }
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    if changes:
        table = output.table("node", "change")
        for change in changes:
            table.add_row(Text(_place(change.scope, change.node)), Text(change.what))
        output.show(table)
    for left in skipped:
        line = f"left alone: {left.kind} at {_place(left.scope, left.node)}: {left.reason}"
        output.say(line)
    told = report or tried
    for line in (*(assessment.lines() if assessment else ()), *(told.notes if told else ())):
        output.say(line)
    counts = "1 change" if len(changes) == 1 else f"{len(changes)} changes"
    counts += f" for {assessment.target}" if assessment else ""
    counts += f", {len(skipped)} left alone" if skipped else ""
    typer.echo(f"{counts}: wrote {written} ({_how(report, tried, assessment)})")


def _how(report: Report | None, tried: RunOnly | None, assessment: Assessment | None) -> str:
    """Return the evidence, in words."""
    how = tried.words() if tried else "not verified"
    how = how if report is None else report.words()
    return f"{how}; {assessment.of_result(_runtimes(report))}" if assessment else how


def _runtimes(report: Report | None) -> list[str]:
    """Return the runtimes that ran the rewritten model."""
    ran = () if report is None else report.ran
    return [*dict.fromkeys(one.runtime for one in ran if one.model == "rewritten")]


def _place(scope: str, node: str) -> str:
    return ": ".join(word for word in (scope, node) if word) or "the model"
