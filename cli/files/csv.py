"""CSV with a header line, commas and UTF-8; quoted line breaks; rows of at most 1 MiB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedRandom
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from gatewave.cli.files.conversion import PlaceName, as_dtype, beyond
from gatewave.cli.files.errors import ContentError, explained
from gatewave.cli.files.format import Chunk, ChunkReader, Evaluation, Format, Layout, Values, Writer
from gatewave.cli.files.table import ARROW_TYPES, DAMAGE, HELD, TableReader, check_columns
from gatewave.service.codecs.datatypes import DType

_TEXT = pa.large_string()
_READ = arrow_csv.ReadOptions(block_size=1 << 20)  # Arrow reads some 30 blocks ahead
_PARSE = arrow_csv.ParseOptions(newlines_in_values=True)


@contextmanager
def _reading(evaluation: Evaluation) -> Iterator[ChunkReader]:
    """Keep columns that are not inputs as text: 007 must not become 7, nor 1.10 become 1.1."""
    with explained(evaluation.source, *DAMAGE):
        with arrow_csv.open_csv(evaluation.source, _READ, _PARSE) as header:
            names = header.schema.names
        check_columns(evaluation, names)
        table = arrow_csv.open_csv(evaluation.source, _READ, _PARSE, _as_text(names))
    number = ARROW_TYPES[evaluation.dtype]
    columns = pa.schema((n, number if n in evaluation.inputs else _TEXT) for n in names)
    with table:

        def batches(_: int) -> Iterator[pa.RecordBatch]:
            return iter(table)

        yield TableReader(evaluation, Layout(columns=columns), None, batches, _numbers)


def _as_text(names: Sequence[str]) -> arrow_csv.ConvertOptions:
    """Read fields as text: an empty field is a null, and "" is an empty text."""
    return arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(names, _TEXT),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _numbers(column: pa.Array, dtype: DType, place: PlaceName) -> NDArray[Any]:
    """Parse decimal numbers, rounded once to float32 or float64; NaN and inf are numbers."""
    parsed: DType = "float32" if dtype == "float32" else "float64"
    text = pc.utf8_trim_whitespace(column)
    try:
        values = pc.cast(text, ARROW_TYPES[parsed]).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        row = _first_failure(text, ARROW_TYPES[parsed])
        msg = f"{place(row)}: {column[row].as_py()!r} is not a number"
        raise ContentError(msg) from error
    spelled = pc.match_substring(text, "inf", ignore_case=True).to_numpy(zero_copy_only=False)
    lost = np.flatnonzero(np.isinf(values) & ~spelled)
    if lost.size:
        raise beyond(place(int(lost[0])), text[lost[0]].as_py(), parsed)
    return as_dtype(values, dtype, place)


def _first_failure(text: pa.Array, number: pa.DataType) -> int:
    """Return the index of the first element that cannot be cast, by bisection."""
    if len(text) == 1:
        return 0
    half = len(text) // 2
    try:
        pc.cast(text.slice(0, half), number)
    except pa.ArrowInvalid:
        return _first_failure(text.slice(0, half), number)
    return half + _first_failure(text.slice(half), number)


@contextmanager
def _writing(evaluation: Evaluation, file: BufferedRandom, layout: Layout) -> Iterator[Writer]:
    kept = layout.columns
    for field in kept:
        _cast(evaluation, pa.nulls(0, field.type), field.name)
    header = [pa.array([name], _TEXT) for name in (*kept.names, *evaluation.outputs)]
    file.write(_lines([_quoted(name) for name in header]))

    def write(chunk: Chunk, results: Values) -> None:
        outputs = [pa.array(results[name]) for name in evaluation.outputs]
        columns = zip(
            (*kept.names, *evaluation.outputs), (*chunk.rows.columns, *outputs), strict=True
        )
        file.write(_lines([_spelled(evaluation, column, name) for name, column in columns]))

    yield write


def _spelled(evaluation: Evaluation, column: pa.Array, name: str) -> pa.Array:
    """Return the column as CSV: the fewest digits that read back the same, quotes where needed."""
    if not pa.types.is_floating(column.type):
        return _quoted(_cast(evaluation, column, name))
    text = _half_digits(column) if pa.types.is_float16(column.type) else column.cast(_TEXT)
    return pc.if_else(pc.is_nan(column), pa.scalar("NaN", _TEXT), text)


def _half_digits(column: pa.Array) -> pa.Array:
    """Format float16 by NumPy: Arrow prints its digits in float64, 0.0999755859375 for 0.1."""
    digits = column.to_numpy(zero_copy_only=False).astype(str)
    return pa.array(digits, _TEXT)


def _cast(evaluation: Evaluation, column: pa.Array, name: str) -> pa.Array:
    try:
        return column.cast(_TEXT)
    except pa.ArrowException as error:
        msg = f"{evaluation.target}: CSV cannot hold column {name!r}, which is {column.type}"
        raise ContentError(msg) from error


def _quoted(text: pa.Array) -> pa.Array:
    """Quote text that would be read as another value; a null becomes an empty field."""
    quote = pa.scalar('"', _TEXT)
    doubled = pc.replace_substring(text, '"', '""')
    inside = pc.binary_join_element_wise(quote, doubled, quote, pa.scalar("", _TEXT))
    special = pc.or_(pc.equal(text, ""), pc.match_substring_regex(text, r'[",\r\n]'))
    return pc.if_else(special, inside, text)


def _lines(columns: Sequence[pa.Array]) -> bytes:
    fields = [column.fill_null("") for column in columns]
    lines = pc.binary_join_element_wise(*fields, pa.scalar(",", _TEXT))
    text = pc.binary_join(
        pa.LargeListArray.from_arrays([0, len(lines)], lines), pa.scalar("\n", _TEXT)
    )
    return bytes(text[0].as_buffer()) + b"\n"


FORMAT = Format(_reading, _writing, dtypes=HELD)
