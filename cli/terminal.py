"""Text output that is never truncated, neither in a narrow terminal nor in a pipe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rich.status import Status
    from rich.table import Table

MAX_WIDTH = 1 << 20
"""Width in columns that no table reaches."""


def say(text: str, *, style: str = "", is_error: bool = False) -> None:
    """Print ``text`` as it is; a terminal wraps lines that are longer than it is wide."""
    console = Console(stderr=is_error)
    console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)


def say_json(document: Any) -> None:
    """Print a document for scripts, as strict JSON: no NaN, no infinities."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def working(text: str) -> Status:
    """Return a context that shows ``text`` and a spinner while work is done.

    It goes to standard error, and only if that is a terminal: in a pipe it prints nothing.
    """
    return Console(stderr=True).status(text, spinner="dots")


def table(*headings: str, title: str = "", show_header: bool = True) -> Table:
    """Return an empty table whose cells wrap; by default, rich ends long words with "…"."""
    from rich.table import Table

    made = Table(
        title=title or None,
        title_justify="left",
        show_header=show_header,
        box=None,
        pad_edge=False,
    )
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def show(made: Table) -> None:
    """Print a table; in a pipe, as wide as its cells, since rich assumes 80 columns there."""
    console = Console()
    if not console.is_terminal:
        whole = console.measure(made, options=console.options.update(max_width=MAX_WIDTH)).maximum
        console.width = max(console.width, whole)
    console.print(made, highlight=False)
