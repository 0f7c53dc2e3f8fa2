"""Interface of a file format, which reads and writes chunks."""

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
    """Request: these inputs in ``source`` become these outputs in ``target``.

    Attributes:
        fortran: True if the target can hold elements in Fortran order.
    """

    source: Path
    target: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: DType
    fortran: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """Properties other than the numbers that the target takes over from the source.

    Attributes:
        shape: Shape of every array; empty for tables.
        fortran: True if elements come in Fortran order.
        columns: The ``pyarrow.Schema`` of the columns that a table keeps.
    """

    shape: tuple[int, ...] = ()
    fortran: bool = False
    columns: Any = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive elements.

    Attributes:
        size: Number of elements.
        values: The inputs, in the dtype that is computed in.
        rows: The ``pyarrow.RecordBatch`` that they came from, as it stands in the table.
    """

    size: int
    values: Values
    rows: Any = None


class ChunkReader(Protocol):
    """An open source. Its total is None if it is known only after the last chunk."""

    @property
    def layout(self) -> Layout: ...
    @property
    def total(self) -> int | None: ...
    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yield all elements in order, in chunks of at most ``size``."""
        ...


Writer = Callable[[Chunk, Values], None]
"""Appends the outputs computed from a chunk to an open target."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        reading: Opens the source.
        writing: Begins the target in an empty file, and completes it when its block ends well.
        dtypes: Element types that the format can hold.
        fortran: True if it can hold arrays in Fortran order.
    """

    reading: Callable[[Evaluation], AbstractContextManager[ChunkReader]]
    writing: Callable[[Evaluation, BufferedRandom, Layout], AbstractContextManager[Writer]]
    dtypes: frozenset[DType] = field(default=frozenset(DTYPES))
    fortran: bool = False
