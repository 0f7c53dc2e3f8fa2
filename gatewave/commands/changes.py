"""What a rewrite has changed, and what it has left, said to people and to scripts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from export.rewrite.replacement import Outcome


def say(outcome: Outcome, written: Path, *, as_json: bool) -> None:
    """A table of the changes, and below it what was left alone, and why."""
    if as_json:
        document = {"written": str(written), **asdict(outcome)}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    console = Console()
    if outcome.changes:
        table = Table("node", "change", box=None, pad_edge=False)
        for change in outcome.changes:
            table.add_row(_place(change.scope, change.node), change.what)
        console.print(table)
    for left in outcome.skipped:
        place = _place(left.scope, left.node)
        console.print(f"left alone: {left.kind} at {place}: {left.reason}", markup=False)
    count = sum(change.kind != "ir" for change in outcome.changes)
    typer.echo(f"replaced {count}, left {len(outcome.skipped)}: wrote {written}")


def _place(scope: str, node: str) -> str:
    return f"{scope}: {node}" if scope else node
