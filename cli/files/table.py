"""Tables, read in batches with pyarrow: the inputs by name, and the columns that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gatewave.cli.files.conversion import PlaceName
from gatewave.cli.files.errors import ContentError, explained, require_names
from gatewave.cli.files.format import Chunk, Evaluation, Layout
from gatewave.service.codecs.datatypes import DTYPES, DType

ARROW_TYPES = MappingProxyType(
    {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}
)
DAMAGE = (pa.ArrowException, UnicodeDecodeError)
"""Errors of Arrow on damaged files; names of columns are decoded late."""

HELD = frozenset(dtype for dtype in DTYPES if dtype in ARROW_TYPES)
"""Without bfloat16, which Arrow does not have."""

ReadNumbers = Callable[[pa.Array, DType, PlaceName], NDArray[Any]]
"""Returns the elements of a column without nulls, in the requested dtype."""


@dataclass(frozen=True, slots=True)
class TableReader:
    """Rows of a table, in batches.

    Attributes:
        batches: Yields record batches of all columns, given the most rows that one may have.
        numbers: Takes the numbers from a column.
    """

    evaluation: Evaluation
    layout: Layout
    total: int | None
    batches: Callable[[int], Iterator[pa.RecordBatch]]
    numbers: ReadNumbers

    def chunks(self, size: int) -> Iterator[Chunk]:
        first_row = 0
        for batch in self._checked_batches(size):
            for start in range(0, batch.num_rows, size):
                yield self._chunk(batch.slice(start, size), first_row + start)
            first_row += batch.num_rows

    def _checked_batches(self, size: int) -> Iterator[pa.RecordBatch]:
        batches = self.batches(size)
        while True:
            with explained(self.evaluation.source, *DAMAGE):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _chunk(self, rows: pa.RecordBatch, first_row: int) -> Chunk:
        values = {name: self._column(rows, name, first_row) for name in self.evaluation.inputs}
        return Chunk(rows.num_rows, values, rows)

    def _column(self, rows: pa.RecordBatch, name: str, first_row: int) -> NDArray[Any]:
        def place(row: int) -> str:
            return f"{label}, row {first_row + row} (the first is 0)"

        label = f"{self.evaluation.source}, column {name!r}"
        column = rows.column(name)
        if column.null_count:
            row = pc.index(column.is_null(), pa.scalar(value=True)).as_py()
            msg = f"{place(row)}: is empty; expected a number: fill it, or drop the row"
            raise ContentError(msg)
        return self.numbers(column, self.evaluation.dtype, place)


def check_columns(evaluation: Evaluation, names: list[str]) -> None:
    """Require each input exactly once, and no column with the name of an output.

    Raises:
        ContentError: Otherwise.
    """
    source = evaluation.source
    require_names(source, "column", evaluation.inputs, names)
    for name in evaluation.inputs:
        if Counter(names)[name] > 1:
            msg = f"{source}: more than one column {name!r}"
            raise ContentError(msg)
    for name in evaluation.outputs:
        if name in names:
            msg = f"{source}: has a column {name!r}, which is what the output is called: rename it"
            raise ContentError(msg)


def output_schema(evaluation: Evaluation, kept: pa.Schema) -> pa.Schema:
    """Return the kept columns, and the outputs after them."""
    arrow_type = ARROW_TYPES[evaluation.dtype]
    for name in evaluation.outputs:
        kept = kept.append(pa.field(name, arrow_type, nullable=False))
    return kept
