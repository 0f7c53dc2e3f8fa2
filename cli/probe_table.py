"""`gatewave doctor --probe`: support of the installed ONNX Runtime, operator by operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from gatewave.cli import terminal
from gatewave.cli.errors import needing

if TYPE_CHECKING:
    from rich.table import Table

    from gatewave.graphs.targets.probe import Answer, ProbeResult

MARKS = {"wrong": "[bold red]wrong[/]", "crashed": "[bold red]crash[/]"}


def show(*, as_json: bool) -> None:
    """Print the operators that run, as a table, or as JSON with a row for each tiny model.

    The results of earlier probes of the same ONNX Runtime are remembered.
    """
    with needing("graphs"):
        from gatewave.graphs.targets.probe import probe
    with terminal.working("running tiny models"):
        answer = probe()
    if as_json:
        terminal.say_json(asdict(answer))
        return
    for provider in answer.providers:
        terminal.show(_table(answer, provider))


def _table(answer: Answer, provider: str) -> Table:
    from gatewave.models import DTYPES

    title = f"ONNX Runtime {answer.version}, {provider}: the opsets at which operators run"
    table = terminal.table("operator", *DTYPES, title=title)
    rows: dict[str, dict[str, list[ProbeResult]]] = defaultdict(lambda: defaultdict(list))
    for row in answer.rows:
        if row.provider == provider:
            rows[row.operator][row.dtype].append(row)
    for operator, by_dtype in rows.items():
        table.add_row(operator, *(_cell(by_dtype[dtype]) for dtype in DTYPES))
    return table


def _cell(rows: Sequence[ProbeResult]) -> str:
    """Format opsets as ``18–28`` or ``17, 22``; if all failed, the outcome."""
    opsets = sorted({row.opset for row in rows if row.outcome == "runs"})
    bad = {MARKS[row.outcome] for row in rows if row.outcome in MARKS}
    if not opsets:
        return ", ".join(sorted(bad)) or "–"
    whole = len(opsets) > 1 and opsets == list(range(opsets[0], opsets[-1] + 1))
    ran = f"{opsets[0]}–{opsets[-1]}" if whole else ", ".join(map(str, opsets))
    return ", ".join([ran, *sorted(bad)])
