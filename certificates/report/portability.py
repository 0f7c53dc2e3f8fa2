"""Generator of docs/portability.md: results of activations on runtimes, from certificates.

``python -m gatewave.certificates.report.portability FOLDER`` writes the page from the certificates
in a folder, which ``gatewave certify --runtimes all`` makes: of activations, and of models from
other sources.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
import yaml

from gatewave.certificates import reproduction
from gatewave.certificates.document import Cell, CellVerdict, Certificate, Row
from gatewave.certificates.report import pages
from gatewave.certificates.runtimes.catalogue import RUNTIMES
from gatewave.export.markdown import bullets, page, table
from gatewave.graphs.errors import GatewaveError
from gatewave.graphs.evidence import Level
from gatewave.graphs.ops.functions import IR_VERSION, OPSET
from gatewave.graphs.ops.signature import GRAPHS, Graph
from gatewave.graphs.strict_model import StrictModel
from gatewave.models import DTYPES, DType

PAGE = Path("docs/portability.md")
COMMAND = "make certify"

WORST: Sequence[CellVerdict] = ("crashed", "differs", "refused", "no baseline", "exact")

INTRODUCTION = f"""\
# Portability

<!-- Written by `{COMMAND}`. -->

Results of every activation on every runtime, in every element type that the runtime supports: the
value, the value with all derivatives, and the vector-Jacobian product.

- Each runtime has its own environment, made from a pinned list, and its own process. It runs the
  artifact as `gatewave lower` rewrote it for this runtime.
- The inputs are those of [accuracy.md](accuracy.md), and tensors of rank 0, without elements, and
  with several axes. The results are compared with exact ones, within the bounds of
  [activations.md](activations.md).

`{COMMAND}` makes this page again: it installs the runtimes and makes a certificate of each
activation in `build/certificates/`. `gatewave certify sinc --runtimes openvino` makes a part of it,
and `gatewave certify model.onnx` does the same for your model."""

SOURCES = "sources"
"""The folder, beside the certificates of activations, of those of other frameworks' models."""

OF_SOURCES = """\
Models with each activation as written in JAX and in Keras, each after its own layers, exported by
jax2onnx and tf2onnx (`tests/sources`). `gatewave fuse` replaced the recognised activations by our
operators and verified the result. Every runtime then ran the model as `gatewave lower` rewrote it
for this runtime. The baseline is the result on which the reference evaluator of the onnx package
and ONNX Runtime agree. Columns are outputs. Below each table are the differences; the defects at
the end of this page cause them."""

OF_EVIDENCE = """\
The inputs of the cells above. *Exhaustive*: every value of the element type. *Sampled*: as
many inputs as the table gives; each certificate says how they were drawn. Parameters that are
numbers have their defaults."""

LEGEND = (
    "✓ all three graphs within tolerance; ✗ one is out of tolerance; – one is refused; † the "
    "process ended without an answer. A number refers to the list of defects below. "
    "An empty cell is an element type that the runtime does not support."
)


TensorValues = list[float] | float
"""A tensor with one axis, or a scalar."""


NUMBERS = ("* times the allowed error", "finite instead of NaN or infinity, or the reverse")
"""The reasons of cells whose numbers are wrong; see `CellErrors.words`."""


class Cells(StrictModel):
    """Cells of certificates, by patterns.

    Attributes:
        runtimes: Patterns of runtimes; likewise subjects, graphs and dtypes.
        verdicts: Verdicts of the cells.
        why: Their reasons.
        share: Largest share of wrong elements, from 0 to 1: the observed one, rounded up.
    """

    runtimes: tuple[str, ...] = ("*",)
    subjects: tuple[str, ...] = ("*",)
    graphs: tuple[str, ...] = ("*",)
    dtypes: tuple[str, ...] = ("*",)
    verdicts: tuple[CellVerdict, ...] = ("differs",)
    why: tuple[str, ...] = NUMBERS
    share: float = 0.0

    def hold(self, row: Row, cell: Cell) -> bool:
        return cell.wrong <= self.share * cell.elements and all(
            any(fnmatch(word, pattern) for pattern in patterns)
            for word, patterns in (
                (row.runtime, self.runtimes),
                (cell.subject, self.subjects),
                (cell.graph, self.graphs),
                (cell.dtype, self.dtypes),
                (cell.verdict, self.verdicts),
                (cell.why, self.why),
            )
        )


class RuntimeDefect(StrictModel):
    """Known defect of one or more runtimes.

    Attributes:
        title: Title in one line.
        says: Description and cause.
        model: The smallest model that shows it, as ONNX text at `OPSET`, without its head.
        inputs: Inputs by name.
        due: Expected outputs by name.
        got: Actual results by runtime: outputs by name, or words of its error.
        cells: Cells of certificates for which it may be the reason.
    """

    title: str
    says: str
    model: str
    inputs: Mapping[str, TensorValues]
    due: Mapping[str, TensorValues]
    got: Mapping[str, Mapping[str, TensorValues] | str]
    cells: tuple[Cells, ...]

    def explains(self, row: Row, cell: Cell) -> bool:
        """Return true if this defect may be the reason why ``cell`` is not exact."""
        return row.runtime in self.got and any(cells.hold(row, cell) for cells in self.cells)

    def whole(self) -> str:
        """The model, with its head."""
        return f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>\n{self.model.strip()}'


@functools.cache
def defects() -> tuple[RuntimeDefect, ...]:
    """The defects that are known, in the order in which they are numbered."""
    entries = yaml.safe_load(_data("runtimes/defects.yaml")) or ()
    return tuple(RuntimeDefect.model_validate(entry) for entry in entries)


def _data(path: str) -> str:
    """A file of this package."""
    return (resources.files("gatewave.certificates") / path).read_text(encoding="utf-8").strip()


@dataclass(frozen=True, slots=True)
class Matrix:
    """The certificates of activations as one table.

    Attributes:
        certificates: One for each activation.
    """

    certificates: Sequence[Certificate]

    def rows(self) -> dict[str, Row]:
        """The runtimes, by name, as the first certificate has them."""
        return {row.runtime: row for c in self.certificates[:1] for row in c.rows}

    def subjects(self) -> list[str]:
        return list(dict.fromkeys(cell.subject for _, cell in self.cells()))

    def cells(self) -> Iterator[tuple[Row, Cell]]:
        for certificate in self.certificates:
            yield from certificate.cells()

    def of(self, runtime: str, subject: str, dtype: DType) -> list[tuple[Row, Cell]]:
        return [
            (row, cell)
            for row, cell in self.cells()
            if (row.runtime, cell.subject, cell.dtype) == (runtime, subject, dtype)
        ]

    def unexplained(self) -> list[tuple[Row, Cell]]:
        """The cells that are not exact, and that no defect explains."""
        return [
            (row, cell)
            for row, cell in self.cells()
            if cell.verdict != "exact" and not numbers_of(row, cell)
        ]


def numbers_of(row: Row, cell: Cell) -> list[int]:
    """The numbers of the defects that may be why ``cell`` is not exact."""
    return [number for number, found in _numbered() if found.explains(row, cell)]


def text(certificates: Sequence[Certificate]) -> str:
    """The page; one certificate at least is of an activation."""
    matrix = Matrix([found for found in certificates if found.kind == "activation"])
    first = matrix.certificates[0]
    return page(
        [
            INTRODUCTION,
            f"Made on {first.made}, on {first.machine}.",
            LEGEND,
            *(_table(matrix, dtype) for dtype in DTYPES),
            _evidence(matrix),
            _changes(matrix),
            _sources([found for found in certificates if found.kind == "model"]),
            _unexplained(matrix),
            _defects(),
            _data("report/exporters.md"),
            _runtimes(matrix.rows()),
        ]
    )


def _table(matrix: Matrix, dtype: DType) -> str:
    subjects = matrix.subjects()
    lines = [
        (row.title, *(_mark(matrix.of(name, subject, dtype)) for subject in subjects))
        for name, row in matrix.rows().items()
    ]
    lines = [line for line in lines if any(line[1:])]
    return f"## {dtype}\n\n" + table(("", *subjects), lines)


def _mark(found: Sequence[tuple[Row, Cell]]) -> str:
    if not found:
        return ""
    worst = min((cell.verdict for _, cell in found), key=WORST.index)
    numbers = {n for row, cell in found if cell.verdict != "exact" for n in numbers_of(row, cell)}
    return " ".join([pages.MARKS[worst], *map(str, sorted(numbers))])


def _evidence(matrix: Matrix) -> str:
    """Return the levels of evidence of the tables; empty for certificates that have none."""
    by_type: dict[tuple[Graph, Level, str], list[Cell]] = {}
    for _, cell in matrix.cells():
        if cell.evidence is not None and cell.graph in GRAPHS:
            key = (cell.graph, cell.evidence.level, cell.dtype)
            by_type.setdefault(key, []).append(cell)
    rows: dict[tuple[Graph, Level, str], list[Cell]] = {}
    for (graph, level, _), cells in by_type.items():
        names = ", ".join(dict.fromkeys(cell.subject for cell in cells))
        rows.setdefault((graph, level, names), []).extend(cells)
    lines = [
        (graph, _dtypes(cells), level, _inputs(cells), names)
        for (graph, level, names), cells in sorted(rows.items(), key=lambda row: row[0][:2])
    ]
    header = ("graph", "element types", "level", "inputs", "operators")
    return f"## Evidence\n\n{OF_EVIDENCE}\n\n{table(header, lines)}" if lines else ""


def _dtypes(cells: Iterable[Cell]) -> str:
    return ", ".join(dict.fromkeys(cell.dtype for cell in cells))


def _inputs(cells: Sequence[Cell]) -> str:
    """Return the least and the largest number of inputs."""
    counts = sorted({cell.evidence.inputs for cell in cells if cell.evidence is not None})
    return " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))


def _changes(matrix: Matrix) -> str:
    """List the changes that `lower` made, with their runtimes."""
    lines = []
    for name, row in matrix.rows().items():
        cells = [cell for other, cell in matrix.cells() if other.runtime == name]
        forms = ", ".join(sorted({cell.form for cell in cells if cell.form}))
        changed = sum(bool(cell.changes) for cell in cells)
        lines.append((row.title, forms, f"{changed} of {len(cells)}"))
    header = ("runtime", "form of the artifact", "changed by `lower`")
    return "## Forms\n\n" + table(header, lines)


def _sources(certificates: Sequence[Certificate]) -> str:
    """Models that other frameworks have written; may be empty."""
    if not certificates:
        return ""
    return "\n\n".join(["## Other sources", OF_SOURCES, *map(_source, certificates)])


def _source(certificate: Certificate) -> str:
    rows = [row for row in certificate.rows if row.cells]
    names = sorted({cell.subject for row in rows for cell in row.cells})
    lines, reasons = [], []
    for row in rows:
        marks = {cell.subject: pages.MARKS[cell.verdict] for cell in row.cells}
        lines.append((row.title, *(marks[name] for name in names)))
        whys = dict.fromkeys(" ".join(c.why.split()) for c in row.cells if c.verdict != "exact")
        reasons += [f"{row.title}: {'; '.join(whys)}"] if whys else []
    title = f"### {certificate.name.removesuffix('.onnx')}"
    return "\n\n".join([title, table(("", *names), lines), bullets(reasons)]).rstrip()


def _unexplained(matrix: Matrix) -> str:
    found = matrix.unexplained()
    if not found:
        return ""
    lines = [
        f"- {row.title}, {' '.join(cell.place)}: {cell.verdict}: {cell.why}" for row, cell in found
    ]
    return "## Not explained\n\n" + "\n".join(lines)


def _defects() -> str:
    return "\n\n".join(["## Defects found in runtimes", *(_defect(*one) for one in _numbered())])


def _numbered() -> Iterator[tuple[int, RuntimeDefect]]:
    return enumerate(defects(), 1)


def _defect(number: int, defect: RuntimeDefect) -> str:
    titles = ", ".join(RUNTIMES[name].title for name in defect.got)
    lines = [("input", *_values(defect.inputs)), ("expected", *_values(defect.due))]
    lines += [(RUNTIMES[name].title, _got(found)) for name, found in defect.got.items()]
    return "\n\n".join(
        [
            f"### {number}. {defect.title}: {titles}",
            defect.says.strip(),
            f"```text\n{defect.whole()}\n```",
            table(("", ""), lines),
        ]
    )


def _values(values: Mapping[str, TensorValues]) -> list[str]:
    return ["; ".join(f"{name} = {numbers}" for name, numbers in values.items())]


def _got(found: Mapping[str, TensorValues] | str) -> str:
    return f"error: … {found} …" if isinstance(found, str) else _values(found)[0]


def _runtimes(rows: Mapping[str, Row]) -> str:
    lines = [
        (row.title, f"`{name}`", ", ".join(f"{n} {v}" for n, v in row.versions.items()))
        for name, row in rows.items()
    ]
    missing = [runtime.title for name, runtime in RUNTIMES.items() if name not in rows]
    left = f"Not run, because this machine lacks their requirements: {', '.join(missing)}."
    blocks = ["## Runtimes", table(("", "name", "versions"), lines), left if missing else ""]
    return page(blocks).rstrip()


def main(
    folder: Annotated[Path, typer.Argument(help="Where the certificates are.")] = Path(
        "certificates"
    ),
    output: Annotated[Path, typer.Option(help="The file to write.")] = PAGE,
) -> None:
    """Write docs/portability.md; exit with 1 if a cell is wrong and no known defect says why."""
    activations = [found for found in _read(folder) if found.kind == "activation"]
    if not activations:
        raise GatewaveError(f"{folder}: there are no certificates: gatewave certify --runtimes all")
    output.write_text(text([*activations, *_read(folder / SOURCES)]), encoding="utf-8")
    typer.echo(f"wrote {output}")
    left = Matrix(activations).unexplained()
    for row, cell in left:
        typer.echo(f"{row.title}, {' '.join(cell.place)}: {cell.verdict}: {cell.why}", err=True)
    raise typer.Exit(1 if left else 0)


def _read(folder: Path) -> list[Certificate]:
    return [reproduction.read(path) for path in sorted(folder.glob("*.certificate.json"))]


if __name__ == "__main__":
    typer.run(main)
