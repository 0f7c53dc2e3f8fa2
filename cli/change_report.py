"""Output of `fuse`, `swap` and `lower`: the changes to a model, and the evidence for them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from gatewave.cli import terminal

if TYPE_CHECKING:
    from gatewave.cli.assessment import Assessment
    from gatewave.cli.model_files import RunOnly
    from gatewave.graphs.rewrite.outcome import Outcome
    from gatewave.graphs.verify.report import Report


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
        terminal.say_json(document)
        return
    if changes:
        table = terminal.table("node", "change")
        for change in changes:
            table.add_row(Text(_place(change.scope, change.node)), Text(change.what))
        terminal.show(table)
    for left in skipped:
        line = f"left alone: {left.kind} at {_place(left.scope, left.node)}: {left.reason}"
        terminal.say(line)
    source = report or tried
    for line in (*(assessment.lines() if assessment else ()), *(source.notes if source else ())):
        terminal.say(line)
    counts = "1 change" if len(changes) == 1 else f"{len(changes)} changes"
    counts += f" for {assessment.target}" if assessment else ""
    counts += f", {len(skipped)} left alone" if skipped else ""
    typer.echo(f"{counts}: wrote {written} ({_evidence(report, tried, assessment)})")


def _evidence(report: Report | None, tried: RunOnly | None, assessment: Assessment | None) -> str:
    """Return the evidence for the changes, in words."""
    words = tried.words() if tried else "not verified"
    words = words if report is None else report.words()
    return f"{words}; {assessment.of_result(_runtimes(report))}" if assessment else words


def _runtimes(report: Report | None) -> list[str]:
    """Return the runtimes that ran the rewritten model."""
    ran = () if report is None else report.ran
    return [*dict.fromkeys(one.runtime for one in ran if one.model == "rewritten")]


def _place(scope: str, node: str) -> str:
    return ": ".join(word for word in (scope, node) if word) or "the model"
