"""A certificate for people: Markdown, and the same as a page of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from markdown_it import MarkdownIt

from gatewave.certificates.document import Cell, CellVerdict, Certificate, Point, Row
from gatewave.export.markdown import bullets, page, plain, table
from gatewave.models import DTYPES

MARKS: dict[CellVerdict, str] = {
    "exact": "✓",
    "differs": "✗",
    "no baseline": "?",
    "refused": "–",
    "crashed": "†",
}
"""Marks in tables, which can be told apart without colour."""

LEGEND = (
    "✓ within tolerance, with the largest used share of it; ✗ out of tolerance; "
    "? no baseline: the two implementations differ; "
    "– the runtime refuses the model; † its process ended without an answer. "
    "An empty cell is a type that the runtime does not support. 0 and -0 are equal."
)

STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { border: 1px solid #8888; padding: .25rem .6rem; text-align: left; vertical-align: top }
code { font-size: .9em; overflow-wrap: anywhere }
:root { color-scheme: light dark }
"""


def markdown(certificate: Certificate) -> str:
    """The whole certificate: tables of verdicts, and each cell that is not exact."""
    digest = certificate.digest()
    made = f"Made on {certificate.made}, on {certificate.machine}. Its SHA-256 is `{digest}`."
    return page(
        [
            f"# Certificate of {plain(certificate.name)}",
            made,
            f"Baseline: {plain(certificate.truth)}.",
            bullets(_differing(certificate)),
            _given(certificate),
            LEGEND,
            bullets(
                f"left out: {plain(n)}: {plain(why)}" for n, why in certificate.left_out.items()
            ),
            *(_section(subject, certificate.rows) for subject in _subjects(certificate)),
            "## Runtimes",
            bullets(map(_runtime, certificate.rows)),
            "## Models",
            table(
                ("model", "SHA-256"),
                ((plain(name), f"`{digest}`") for name, digest in certificate.models.items()),
            ),
        ]
    )


def _differing(certificate: Certificate) -> Iterator[str]:
    """Yield each node that the implementations behind the baseline compute differently."""
    for node in certificate.baseline.differing:
        yield plain(f"no baseline after {node.words()}: {node.says}; {len(node.cases)} inputs")


def _given(certificate: Certificate) -> str:
    """Return the inputs and tolerances that the caller gave."""
    given = certificate.inputs
    words = "" if given is None else f"The inputs are those of {plain(given.file)}, by SHA-256: "
    words += ", ".join(f"{plain(n)} `{d}`" for n, d in (given.sha256 if given else {}).items())
    bounds = certificate.tolerance.model_dump(exclude_defaults=True)
    asked = ", ".join(f"{name} {bound:g}" for name, bound in bounds.items())
    return " ".join(filter(None, (words and f"{words}.", asked and f"Tolerance: {asked}.")))


def html(certificate: Certificate) -> str:
    """Render the same as HTML; the page loads no other file."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = renderer.render(markdown(certificate))
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Certificate of {escape(certificate.name)}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'


def verdicts(rows: Iterable[Row], subject: str) -> str:
    """The table of one operator: a line for each runtime, a column for each graph and dtype."""
    rows = list(rows)
    columns = _columns(rows, subject)
    header = ("runtime", *(f"{graph} {dtype}".strip() for graph, dtype in columns))
    return table(header, (_line(row, subject, columns) for row in rows))


def problems(rows: Iterable[Row], subject: str) -> Iterator[str]:
    """Each cell of one operator that is not exact, in words."""
    for row in rows:
        for cell in row.cells:
            if cell.subject == subject and cell.verdict != "exact":
                where = f"{row.title}, {cell.graph} {cell.dtype}"
                yield f"{where}: {cell.verdict}: {plain(_why(cell))}"


def _section(subject: str, rows: Sequence[Row]) -> str:
    cells = [(row, cell) for row in rows for cell in row.cells if cell.subject == subject]
    blocks = [
        f"## {plain(subject)}",
        verdicts(rows, subject),
        bullets(problems(rows, subject)),
        _tried(cells),
        bullets(_allowed(cell for _, cell in cells)),
        bullets(_evidence(cell for _, cell in cells)),
    ]
    return page(blocks).rstrip()


def _tried(cells: Sequence[tuple[Row, Cell]]) -> str:
    """Table of a user's model: a line for each case of inputs, a column for each runtime."""
    found = {row.title: {tried.name: tried for tried in cell.cases} for row, cell in cells}
    names = dict.fromkeys(name for tried in found.values() for name in tried)
    if not names:
        return ""
    lines = [
        (name, *(MARKS[tried[name].verdict] if name in tried else "" for tried in found.values()))
        for name in names
    ]
    return table(("inputs", *found), lines)


def _allowed(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield the tolerances of the compared cells, once for each graph and dtype."""
    compared = ((cell.graph, cell.dtype, cell.allowed) for cell in cells if cell.allowed)
    for graph, dtype, words in dict.fromkeys(compared):
        yield f"allowed in {' '.join(filter(None, (graph, dtype)))}: {plain(words)}"


def _evidence(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield the level of evidence of the compared cells, once for each graph and dtype."""
    compared = ((c.graph, c.dtype, c.evidence.words()) for c in cells if c.evidence is not None)
    for graph, dtype, words in dict.fromkeys(compared):
        yield f"compared in {' '.join(filter(None, (graph, dtype)))}: {plain(words)}"


def _subjects(certificate: Certificate) -> list[str]:
    return list(dict.fromkeys(cell.subject for _, cell in certificate.cells()))


def _columns(rows: Iterable[Row], subject: str) -> list[tuple[str, str]]:
    cells = (cell for row in rows for cell in row.cells if cell.subject == subject)
    found = dict.fromkeys((cell.graph, cell.dtype) for cell in cells)
    graphs = list(dict.fromkeys(graph for graph, _ in found))
    order = {dtype: index for index, dtype in enumerate(DTYPES)}
    return sorted(found, key=lambda one: (graphs.index(one[0]), order.get(one[1], len(order))))  # type: ignore[call-overload]


def _line(row: Row, subject: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    cells = {(c.graph, c.dtype): c for c in row.cells if c.subject == subject}
    if not row.cells:
        return [row.title, *("" for _ in columns)]
    return [row.title, *(_mark(cells.get(column)) for column in columns)]


def _mark(cell: Cell | None) -> str:
    if cell is None:
        return ""
    used = "" if cell.used is None or cell.verdict != "exact" else f" {cell.used:.2f}"
    return MARKS[cell.verdict] + used


def _why(cell: Cell) -> str:
    words = " ".join(cell.why.split())
    wrong = f"{cell.wrong} of {cell.elements} elements" if cell.wrong else ""
    special = ", ".join(f"{special.value!r}" for special in cell.special if not special.holds)
    return "; ".join(
        part
        for part in (
            words,
            wrong,
            _point(cell.worst) if cell.worst and cell.worst.inputs else "",
            f"wrong at {special}" if special else "",
        )
        if part
    )


def _point(point: Point) -> str:
    inputs = ", ".join(f"{name}={value!r}" for name, value in point.inputs.items())
    return f"{point.output} at {inputs} is {point.got!r}, not {point.due!r}"


def _runtime(row: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row.versions.items())
    return f"{row.title} (`{row.runtime}`): {versions or plain(row.why)}"
