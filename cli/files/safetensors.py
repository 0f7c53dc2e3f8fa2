"""``.safetensors``: tensors by name, behind a header of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedRandom
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from gatewave.cli.files.array import StoredArray, reader_of
from gatewave.cli.files.errors import ContentError, explained, require_names
from gatewave.cli.files.format import Chunk, ChunkReader, Evaluation, Format, Layout, Values, Writer
from gatewave.service.codecs.datatypes import NUMPY, DType

_LENGTH_BYTES = _ALIGNMENT = 8
_INTEGERS = {f"{kind}{8 * size}": f"{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}
_FLOATS: dict[str, DType] = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
"""Without floats of 8 bits and fewer: they need a scale, which is stored elsewhere."""


@contextmanager
def _reading(evaluation: Evaluation) -> Iterator[ChunkReader]:
    source = evaluation.source
    # The library checks the header and the length of the file against the format.
    with explained(source, SafetensorError), safe_open(source, framework="numpy"):
        entries, origin = _header(source)
    require_names(source, "tensor", evaluation.inputs, entries)
    with ExitStack() as stack:
        arrays = {
            name: _tensor(source, name, entries[name], origin, stack) for name in evaluation.inputs
        }
        yield stack.enter_context(reader_of(arrays, evaluation))


def _header(source: Path) -> tuple[dict[str, Any], int]:
    """Return the entries of the tensors, and the offset of the first tensor."""
    with source.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        return entries, file.tell()


def _tensor(
    source: Path, name: str, entry: dict[str, Any], origin: int, stack: ExitStack
) -> StoredArray:
    begin, end = entry["data_offsets"]
    label = f"{source}, tensor {name!r}"
    dtype = _dtype(label, entry["dtype"])
    with explained(source):
        stream = stack.enter_context(source.open("rb"))
        stream.seek(origin + begin)
    return StoredArray(
        file=source,
        label=label,
        dtype=dtype,
        shape=tuple(entry["shape"]),
        stream=stream,
        stored=end - begin,
        origin=origin + begin,
    )


def _dtype(label: str, name: str) -> np.dtype[Any]:
    if name in _FLOATS:
        return NUMPY[_FLOATS[name]].newbyteorder("<")
    if name in _INTEGERS:
        return np.dtype(f"<{_INTEGERS[name]}")
    msg = f"{label}: holds {name}, expected one of {', '.join((*_FLOATS, *_INTEGERS))}"
    raise ContentError(msg)


@contextmanager
def _writing(evaluation: Evaluation, file: BufferedRandom, layout: Layout) -> Iterator[Writer]:
    """Write elements as they come: each tensor has a fixed place in the file."""
    origin = file.write(_preamble(evaluation, layout))
    place = {
        name: origin + begin for name, (begin, _) in _extents(evaluation, layout.shape).items()
    }

    def write(_: Chunk, results: Values) -> None:
        for name, values in results.items():
            file.seek(place[name])
            place[name] += file.write(values.view(np.uint8).data)

    yield write


def _preamble(evaluation: Evaluation, layout: Layout) -> bytes:
    dtype = next(name for name, numpy_name in _FLOATS.items() if numpy_name == evaluation.dtype)
    header = {
        name: {"dtype": dtype, "shape": layout.shape, "data_offsets": extent}
        for name, extent in _extents(evaluation, layout.shape).items()
    }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded


def _extents(evaluation: Evaluation, shape: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    size = prod(shape) * NUMPY[evaluation.dtype].itemsize
    return {
        name: (index * size, (index + 1) * size) for index, name in enumerate(evaluation.outputs)
    }


FORMAT = Format(_reading, _writing)
