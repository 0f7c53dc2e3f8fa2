"""Arrays in files, read in chunks."""

from __future__ import annotations

import io
import lzma
import math
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gatewave.cli.files.conversion import as_dtype, is_number
from gatewave.cli.files.errors import ContentError, DamagedFileError, explained
from gatewave.cli.files.format import Chunk, Evaluation, Layout
from gatewave.cli.files.replacement import scratch_file

DAMAGE = (EOFError, RuntimeError, ValueError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)
"""Errors of a damaged zip file; `RuntimeError` is for passwords and unknown methods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """An array in a file whose elements have not been read.

    Attributes:
        file: File that holds it.
        label: Name in messages: the file, and the name inside it.
        fortran: True if the first axis, not the last, runs fastest.
        stream: Stands at the first element that was not taken yet.
        stored: The bytes that the file holds for the elements.
        origin: Position of the first element in the stream.
        transposed: Take elements in C order from a file in Fortran order.
    """

    file: Path
    label: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False
    stream: io.BufferedIOBase
    stored: int
    origin: int
    transposed: bool = False

    def __post_init__(self) -> None:
        if not is_number(self.dtype):
            msg = f"{self.label}: {_refusal(self.dtype)}"
            raise ContentError(msg)
        expected = self.size * self.dtype.itemsize
        if min(self.shape, default=0) < 0 or self.stored != expected:
            msg = (
                f"{self.label}: expected {expected} bytes for {self.dtype} of shape {self.shape}, "
                f"and there are {self.stored}"
            )
            raise DamagedFileError(msg)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def take(self, start: int, count: int) -> NDArray[Any]:
        """Return ``count`` elements from ``start``; chunks must be read in order."""
        with explained(self.file, *DAMAGE):
            return self._picked(start, count) if self.transposed else self._next(count)

    def _next(self, count: int) -> NDArray[Any]:
        values = np.empty(count, self.dtype)
        taken = self.stream.readinto(values.view(np.uint8).data)
        if taken != values.nbytes:
            msg = f"{self.label}: ended {values.nbytes - taken} bytes too early"
            raise DamagedFileError(msg)
        return values

    def _picked(self, start: int, count: int) -> NDArray[Any]:
        # A new mapping for each chunk: its pages belong to the page cache, so memory stays bounded.
        mapped = np.memmap(self.stream, self.dtype, "r", self.origin, self.shape, "F")
        return np.asarray(mapped.flat[start : start + count])


@dataclass(frozen=True, slots=True)
class _ArrayReader:
    arrays: Mapping[str, StoredArray]
    layout: Layout
    evaluation: Evaluation

    @property
    def total(self) -> int:
        return math.prod(self.layout.shape)

    def chunks(self, size: int) -> Iterator[Chunk]:
        for start in range(0, self.total, size):
            count = min(size, self.total - start)
            values = {name: self._taken(name, start, count) for name in self.arrays}
            yield Chunk(count, values)

    def _taken(self, name: str, start: int, count: int) -> NDArray[Any]:
        def place(element: int) -> str:
            order: Literal["C", "F"] = "F" if self.layout.fortran else "C"
            index = np.unravel_index(start + element, self.layout.shape, order)
            return f"{array.label}[{', '.join(map(str, index))}]" if index else array.label

        array = self.arrays[name]
        return as_dtype(array.take(start, count), self.evaluation.dtype, place)


@contextmanager
def reader_of(arrays: Mapping[str, StoredArray], evaluation: Evaluation) -> Iterator[_ArrayReader]:
    """Return the arrays in one order: Fortran if all of them and the target have it, otherwise C.

    Raises:
        ContentError: They differ in shape.
    """
    shape = _common_shape(arrays)
    fortran = evaluation.fortran and all(array.fortran for array in arrays.values())
    with ExitStack() as stack:
        if not fortran:
            folder = evaluation.target.resolve().parent
            arrays = {
                name: stack.enter_context(_in_c_order(array, folder))
                for name, array in arrays.items()
            }
        yield _ArrayReader(arrays, Layout(shape, fortran), evaluation)


def _common_shape(arrays: Mapping[str, StoredArray]) -> tuple[int, ...]:
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        different = ", ".join(f"{array.label} has {array.shape}" for array in arrays.values())
        msg = f"The inputs must have one shape: {different}"
        raise ContentError(msg)
    return shapes.pop()


@contextmanager
def _in_c_order(array: StoredArray, folder: Path) -> Iterator[StoredArray]:
    """Return the array or its transpose; a compressed one is unpacked into ``folder`` first."""
    if not (array.fortran and array.size):
        yield array
    elif isinstance(array.stream, io.BufferedReader):
        yield replace(array, transposed=True)
    else:
        with scratch_file(folder) as unpacked:
            with explained(array.file, *DAMAGE):
                shutil.copyfileobj(array.stream, unpacked)
            unpacked.flush()
            yield replace(array, stream=unpacked, origin=0, transposed=True)


def _refusal(dtype: np.dtype[Any]) -> str:
    held = f"holds {dtype.name}, expected integers, or floats of 16, 32 or 64 bits"
    if dtype.kind == "O":
        return f"{held}: pickled Python objects are never loaded"
    if dtype.kind == "V" and dtype.names is None:
        return f"{held}: if NumPy saved bfloat16 here, its type was lost; use .safetensors for it"
    return held
