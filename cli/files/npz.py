"""``.npz``: arrays by name, each a ``.npy`` in a zip file."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, cast

from gatewave.cli.files.array import DAMAGE, StoredArray, reader_of
from gatewave.cli.files.errors import explained, require_names
from gatewave.cli.files.format import Chunk, ChunkReader, Evaluation, Format, Layout, Values, Writer
from gatewave.cli.files.npy import NAMEABLE, stored_array, write_header
from gatewave.cli.files.replacement import scratch_file

_SUFFIX = ".npy"


@contextmanager
def _reading(evaluation: Evaluation) -> Iterator[ChunkReader]:
    source = evaluation.source
    with ExitStack() as stack:
        with explained(source, *DAMAGE):
            archive = stack.enter_context(zipfile.ZipFile(source))
        there = [n.removesuffix(_SUFFIX) for n in archive.namelist() if n.endswith(_SUFFIX)]
        require_names(source, "array", evaluation.inputs, there)
        arrays = {name: _member(archive, name, evaluation, stack) for name in evaluation.inputs}
        yield stack.enter_context(reader_of(arrays, evaluation))


def _member(
    archive: zipfile.ZipFile, name: str, evaluation: Evaluation, stack: ExitStack
) -> StoredArray:
    source = evaluation.source
    with explained(source, *DAMAGE):
        stream = stack.enter_context(archive.open(name + _SUFFIX))
    length = archive.getinfo(name + _SUFFIX).file_size
    label = f"{source}, array {name!r}"
    return stored_array(cast("io.BufferedIOBase", stream), source, label, length)


@contextmanager
def _writing(evaluation: Evaluation, file: io.BufferedRandom, layout: Layout) -> Iterator[Writer]:
    """Write the first output into the zip file directly, and the others to scratch files.

    A zip file takes one member at a time; the others are copied into it at the end.
    """
    first, *others = evaluation.outputs
    folder = evaluation.target.resolve().parent
    with zipfile.ZipFile(file, "w") as archive, ExitStack() as stack:
        waiting = {name: stack.enter_context(scratch_file(folder)) for name in others}
        with _new_member(archive, first) as member:
            streams = {first: member, **waiting}
            for stream in streams.values():
                write_header(stream, layout, evaluation.dtype)

            def write(_: Chunk, results: Values) -> None:
                for name, stream in streams.items():
                    stream.write(results[name].data)

            yield write
        for name, content in waiting.items():
            content.seek(0)
            with _new_member(archive, name) as member:
                shutil.copyfileobj(content, member, 1 << 20)


def _new_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Return an entry dated 1980, the first year of zip: the same numbers make the same file."""
    return archive.open(zipfile.ZipInfo(name + _SUFFIX), "w", force_zip64=True)


FORMAT = Format(_reading, _writing, dtypes=NAMEABLE, fortran=True)
