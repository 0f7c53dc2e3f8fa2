"""``.npy``: one array."""

from __future__ import annotations

import io
import os
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from gatewave.cli.files.array import DAMAGE, StoredArray, reader_of
from gatewave.cli.files.errors import UnsupportedFileError, explained, listed
from gatewave.cli.files.format import Chunk, ChunkReader, Evaluation, Format, Layout, Values, Writer
from gatewave.service.codecs.datatypes import NUMPY, DType

NAMEABLE: frozenset[DType] = frozenset({"float16", "float32", "float64"})
"""Without bfloat16: NumPy's format has no name for it, and reads it back as two raw bytes."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_HEADER_DAMAGE = (*DAMAGE, tokenize.TokenError, SyntaxError, TypeError, LookupError, MemoryError)


def stored_array(stream: io.BufferedIOBase, file: Path, label: str, length: int) -> StoredArray:
    """Return the ``.npy`` array at the start of the stream, which has ``length`` bytes.

    Raises:
        UnsupportedFileError: It is of a version that only structured arrays need.
        DamagedFileError: Its header cannot be read, or does not match the data after it.
        ContentError: Its elements are no numbers that we take.
    """
    with explained(file, *_HEADER_DAMAGE):
        shape, fortran, dtype = _header(stream, label)
        origin = stream.tell()
    return StoredArray(
        file=file,
        label=label,
        dtype=dtype,
        shape=shape,
        fortran=fortran and len(shape) > 1,
        stream=stream,
        stored=length - origin,
        origin=origin,
    )


def _header(
    stream: io.BufferedIOBase, label: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        msg = f"{label}: has version {version} of the format, expected (1, 0) or (2, 0)"
        raise UnsupportedFileError(msg)
    return _HEADERS[version](stream)


def write_header(file: io.BufferedRandom | IO[bytes], layout: Layout, dtype: DType) -> None:
    npy.write_array_header_1_0(
        file,
        {
            "descr": npy.dtype_to_descr(NUMPY[dtype]),
            "fortran_order": layout.fortran,
            "shape": layout.shape,
        },
    )


@contextmanager
def _reading(evaluation: Evaluation) -> Iterator[ChunkReader]:
    source = evaluation.source
    _check_single(source, "input", evaluation.inputs)
    with explained(source):
        stream = source.open("rb")
    with stream:
        length = os.fstat(stream.fileno()).st_size
        array = stored_array(stream, source, str(source), length)
        with reader_of({evaluation.inputs[0]: array}, evaluation) as reader:
            yield reader


@contextmanager
def _writing(evaluation: Evaluation, file: io.BufferedRandom, layout: Layout) -> Iterator[Writer]:
    _check_single(evaluation.target, "output", evaluation.outputs)
    write_header(file, layout, evaluation.dtype)

    def write(_: Chunk, results: Values) -> None:
        file.write(results[evaluation.outputs[0]].data)

    yield write


def _check_single(path: Path, noun: str, names: tuple[str, ...]) -> None:
    if len(names) != 1:
        msg = (
            f"{path}: a .npy file holds one array, and the {noun}s are {listed(names)}: "
            "use .npz or .safetensors"
        )
        raise UnsupportedFileError(msg)


FORMAT = Format(_reading, _writing, dtypes=NAMEABLE, fortran=True)
