"""`gatewave doctor`: installed parts, and faults in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gatewave.cli import probe_table, terminal
from gatewave.cli.errors import needing
from gatewave.cli.options import JsonOption

if TYPE_CHECKING:
    from gatewave.cli.findings import Finding

STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def doctor(
    artifacts: Annotated[
        Path | None, typer.Option(help="Folder that `gatewave export` wrote.")
    ] = None,
    as_json: JsonOption = False,
    probe: Annotated[
        bool,
        typer.Option(help="Only run tiny models, and show which operators ONNX Runtime runs."),
    ] = False,
) -> None:
    """Check versions, ONNX Runtime, CUDA, kernels and artifacts; exit with 1 on a fault.

    Each artifact is loaded, and its results are checked.

    Examples:

        gatewave doctor
        gatewave doctor --artifacts artifacts --json
    """
    if probe:
        probe_table.show(as_json=as_json)
        return
    with needing("cpu"):
        from gatewave.cli import findings
    with terminal.working("loading the artifacts"):
        found = [*findings.findings(artifacts)]
    if as_json:
        terminal.say_json([asdict(finding) for finding in found])
    else:
        _print(found)
    if any(finding.verdict == "wrong" for finding in found):
        raise typer.Exit(1)


def _print(findings: Sequence[Finding]) -> None:
    table = terminal.table("", "", "", show_header=False)
    for finding in findings:
        mark = f"[{STYLES[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(mark, Text(finding.subject), Text(finding.detail))
    terminal.show(table)
