"""What a file format is to an evaluation: a way to read chunks, and a way to write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from gatewave.service.codecs.datatypes import DTYPES, DType

Values = Mapping[str, NDArray[Any]]
"""Flat arrays of one length, by name."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is asked: these inputs of ``source`` become these outputs in ``target``.

    Attributes:
        fortran: Whether the target can hold elements in Fortran order.
    """

    source: Path
    target: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: DType
    fortran: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What the target takes over from the source beside the numbers.

    Attributes:
        shape: Of every array; empty for tables.
        fortran: Whether elements come in Fortran order.
        columns: The ``pyarrow.Schema`` of the columns that a table keeps.
    """

    shape: tuple[int, ...] = ()
    fortran: bool = False
    columns: Any = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive elements.

    Attributes:
        size: How many.
        values: The inputs, in the dtype that is computed in.
        rows: The ``pyarrow.RecordBatch`` that they came from, as it stands in the table.
    """

    size: int
    values: Values
    rows: Any = None


class ChunkReader(Protocol):
    """An open source. Its total is None where only reading to the end can tell."""

    @property
    def layout(self) -> Layout: ...
    @property
    def total(self) -> int | None: ...
    def chunks(self, size: int) -> Iterator[Chunk]:
        """All elements in order, in chunks of ``size`` at most."""
        ...


Writer = Callable[[Chunk, Values], None]
"""Appends the outputs computed from a chunk to an open target."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        reading: Opens the source.
        writing: Begins the target in an empty file, and completes it when its block ends well.
        dtypes: What the format can hold.
        fortran: Whether it can hold arrays in Fortran order.
    """

    reading: Callable[[Evaluation], AbstractContextManager[ChunkReader]]
    writing: Callable[[Evaluation, BufferedRandom, Layout], AbstractContextManager[Writer]]
    dtypes: frozenset[DType] = field(default=frozenset(DTYPES))
    fortran: bool = False
