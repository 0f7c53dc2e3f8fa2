"""Text output that is never truncated, neither in a narrow terminal nor in a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

WIDEST = 1 << 20


def say(text: str, *, style: str = "", is_error: bool = False) -> None:
    """Print ``text`` as it is; a terminal wraps lines that are longer than it is wide."""
    console = Console(stderr=is_error)
    console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)


def table(*headings: str, title: str = "", show_header: bool = True) -> Table:
    """Return an empty table whose cells wrap; by default, rich ends long words with "…"."""
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
        whole = console.measure(made, options=console.options.update(max_width=WIDEST)).maximum
        console.width = max(console.width, whole)
    console.print(made, highlight=False)
