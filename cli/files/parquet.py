"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gatewave.cli.files.conversion import PlaceName, as_dtype
from gatewave.cli.files.errors import ContentError, explained
from gatewave.cli.files.format import Chunk, ChunkReader, Evaluation, Format, Layout, Values, Writer
from gatewave.cli.files.table import DAMAGE, HELD, TableReader, check_columns, output_schema
from gatewave.service.codecs.datatypes import DType

_BUFFER_BYTES = 1 << 20
"""Bytes read at a time of each column; by default pyarrow reads a whole row group."""


@contextmanager
def _reading(evaluation: Evaluation) -> Iterator[ChunkReader]:
    source = evaluation.source
    with explained(source, *DAMAGE):
        file = pq.ParquetFile(
            source, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        )
    with file:
        with explained(source, *DAMAGE):
            schema, total = file.schema_arrow, file.metadata.num_rows
        _check(evaluation, schema)

        def batches(size: int) -> Iterator[pa.RecordBatch]:
            return iter(file.iter_batches(size))

        yield TableReader(evaluation, Layout(columns=schema), total, batches, _numbers)


def _check(evaluation: Evaluation, schema: pa.Schema) -> None:
    check_columns(evaluation, schema.names)
    for name in evaluation.inputs:
        found = schema.field(name).type
        if not (pa.types.is_integer(found) or pa.types.is_floating(found)):
            msg = (
                f"{evaluation.source}, column {name!r}: holds {found}, expected integers or floats"
            )
            raise ContentError(msg)


def _numbers(column: pa.Array, dtype: DType, place: PlaceName) -> NDArray[Any]:
    return as_dtype(column.to_numpy(zero_copy_only=False), dtype, place)


@contextmanager
def _writing(evaluation: Evaluation, file: BufferedRandom, layout: Layout) -> Iterator[Writer]:
    schema = output_schema(evaluation, layout.columns)
    with pq.ParquetWriter(file, schema) as writer:

        def write(chunk: Chunk, results: Values) -> None:
            outputs = [pa.array(results[name]) for name in evaluation.outputs]
            columns = [*_typed(chunk, layout.columns), *outputs]
            writer.write_batch(pa.record_batch(columns, schema=schema))

        yield write


def _typed(chunk: Chunk, kept: pa.Schema) -> Iterator[pa.Array]:
    """Return the kept columns; inputs that were text in the source are numbers here."""
    for field, column in zip(kept, chunk.rows.columns, strict=True):
        yield column if column.type == field.type else pa.array(chunk.values[field.name])


FORMAT = Format(_reading, _writing, dtypes=HELD)
