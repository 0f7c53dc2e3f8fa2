"""Elementwise functions over files of any size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gatewave.cli.files.errors import FileAccessError, UnsupportedFileError, listed
from gatewave.cli.files.format import Chunk, Evaluation, Format, Values
from gatewave.cli.files.replacement import replacing
from gatewave.service.codecs.datatypes import NUMPY, DType

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"arrays": (".npy", ".npz", ".safetensors"), "tables": (".parquet", ".csv")}
)
"""Suffixes of the supported formats, by family.

The module of a format is named after its suffix, and is imported for a file that has it: pyarrow is
an extra, and slow to import.
"""

ComputeValues = Callable[[Values], Values]
Progress = Callable[[int, int | None], None]


def _unseen(done: int, total: int | None) -> None:
    """Ignore the progress."""


def evaluate_file(
    source: Path,
    target: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dtype: DType,
    compute: ComputeValues,
    chunk_elements: int = 1 << 20,
    progress: Progress = _unseen,
) -> int:
    """Evaluate ``compute`` over ``source``, chunk by chunk, into ``target``.

    Arrays keep their shape, and Fortran order where all have it and the target can. Tables keep
    their columns, before those of the outputs. The target appears when all is done, in place of
    what was there; until then, and on any error or interruption, what was there stays. So the
    target may be the source.

    Args:
        source: A file with a suffix of `FAMILIES`.
        target: Another of the same family, in a folder that exists.
        inputs: The arrays, tensors or columns to take. A ``.npy`` file holds one, without a name.
        outputs: Names of the results.
        dtype: Element type of the computation and the target. Other numbers are converted.
        compute: Takes flat arrays of ``dtype`` by input name, all of one length, perhaps
            read-only; answers arrays of the same dtype and length by output name.
        chunk_elements: The most that is taken at once, which bounds the memory.
        progress: Called with the number of finished elements and the total; None if unknown.

    Returns:
        The number of elements, of each input.

    Raises:
        FileError: One of its kinds; see `gatewave.cli.files.errors`.
        ValueError: ``compute`` answers something else than what was agreed, or
            ``chunk_elements`` is not positive.
    """
    if chunk_elements < 1:
        msg = f"chunk_elements is {chunk_elements}, expected at least 1"
        raise ValueError(msg)
    reading, writing = _formats(source, target, dtype)
    evaluation = Evaluation(source, target, tuple(inputs), tuple(outputs), dtype, writing.fortran)
    done = 0
    with (
        replacing(target) as file,
        reading.reading(evaluation) as reader,
        writing.writing(evaluation, file, reader.layout) as write,
    ):
        for chunk in reader.chunks(chunk_elements):
            write(chunk, _agreed(compute(chunk.values), chunk, evaluation))
            done += chunk.size
            progress(done, reader.total)
    return done


def _agreed(results: Values, chunk: Chunk, evaluation: Evaluation) -> Values:
    """Return the results in one piece each, if they have the agreed form."""
    dtype = NUMPY[evaluation.dtype]
    for name in evaluation.outputs:
        if name not in results:
            msg = f"compute answered {listed(results)}, expected {name!r} as well"
            raise ValueError(msg)
        found = results[name]
        if found.dtype != dtype or found.shape != (chunk.size,):
            msg = (
                f"compute answered {found.dtype}{found.shape} for {name!r}, "
                f"expected {dtype}{(chunk.size,)}"
            )
            raise ValueError(msg)
    return {name: np.ascontiguousarray(results[name]) for name in evaluation.outputs}


def _formats(source: Path, target: Path, dtype: DType) -> tuple[Format, Format]:
    family, other = _family(source), _family(target)
    if family != other:
        msg = f"{target}: {source} holds {family}, not {other}: write {_either(FAMILIES[family])}"
        raise UnsupportedFileError(msg)
    reading, writing = _format(source), _format(target)
    if dtype not in writing.dtypes:
        holders = [s for s in FAMILIES[family] if dtype in _format(target.with_suffix(s)).dtypes]
        way_out = f"write {_either(holders)}, or " if holders else ""
        msg = f"{target}: cannot hold {dtype}: {way_out}choose another dtype"
        raise UnsupportedFileError(msg)
    if not source.is_file():
        msg = f"{source}: is not a file" if source.exists() else f"{source}: there is no such file"
        raise FileAccessError(msg)
    return reading, writing


def _family(path: Path) -> str:
    for family, suffixes in FAMILIES.items():
        if path.suffix.lower() in suffixes:
            return family
    every = itertools.chain.from_iterable(FAMILIES.values())
    msg = f"{path}: the suffix {path.suffix!r} is not known: use {_either(tuple(every))}"
    raise UnsupportedFileError(msg)


def _format(path: Path) -> Format:
    try:
        found: Format = import_module(f"gatewave.cli.files.{path.suffix.lower()[1:]}").FORMAT
    except ModuleNotFoundError as error:
        msg = f"{path}: tables need {error.name}: pip install 'gatewave[tables]'"
        raise UnsupportedFileError(msg) from error
    return found


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)
