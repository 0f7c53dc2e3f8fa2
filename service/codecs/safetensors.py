"""Reader and writer of safetensors files in memory, without copies of tensors.

The format (https://huggingface.co/docs/safetensors) has eight bytes with the length of the header,
the header in JSON, and the bytes of the tensors, little-endian, one after the other without gaps.
The ``safetensors`` library reads files by path, or copies each tensor. Tests compare this module
with the library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from gatewave.service.codecs.bodies import Part
from gatewave.service.codecs.count_limits import MAX_FIELDS, check_count
from gatewave.service.codecs.datatypes import NUMPY, Array, DType
from gatewave.service.errors import BodyMalformed, LimitExceeded
from gatewave.service.quoting import Words

LENGTH_BYTES = 8
METADATA = "__metadata__"
LONGEST_HEADER = 1 << 16
"""In bytes. The header is read on the event loop, in less than a millisecond. A request needs some
hundred bytes; the format allows 100 MB, for models of thousands of tensors."""

DTYPE_OF: dict[str, DType] = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
CODE_OF = {NUMPY[dtype]: code for code, dtype in DTYPE_OF.items()}

Header = dict[str, Any]


def decode(body: bytes | memoryview, max_rank: int) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the tensors in ``body``, as views of it, and the file's metadata.

    Raises:
        BodyMalformed: The bytes are not a safetensors file, or contain tensors that are not floats;
            the error names the tensor.
        LimitExceeded: A tensor has more axes than ``max_rank``, or there are too many tensors.
    """
    header, data = _split(body)
    check_count(header, MAX_FIELDS, "body", "tensors")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BodyMalformed.at(METADATA, "an object of strings", metadata)
    tensors = {name: _tensor(name, entry, data, max_rank) for name, entry in header.items()}
    spans = sorted(entry["data_offsets"] for entry in header.values())
    ends = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != ends[:-1] or ends[-1] != len(data):
        raise BodyMalformed.at("body", "tensors that fill the file without gaps", spans)
    return tensors, metadata


def encode(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> list[Part]:
    """Return a safetensors file in parts: the header, and a view of each tensor's memory."""
    header: Header = {METADATA: dict(metadata)}
    parts: list[Part] = []
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        code = CODE_OF[array.dtype]
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [begin, end]}
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    text = orjson.dumps(header)
    text += b" " * (-len(text) % LENGTH_BYTES)
    return [len(text).to_bytes(LENGTH_BYTES, "little") + text, *parts]


def data_at(beginning: bytes) -> int:
    """Return the position of the tensors in a file that starts with ``beginning``."""
    return LENGTH_BYTES + int.from_bytes(beginning[:LENGTH_BYTES], "little")


def _split(body: bytes | memoryview) -> tuple[Header, memoryview]:
    length = int.from_bytes(body[:LENGTH_BYTES], "little")
    end = LENGTH_BYTES + length
    if len(body) < LENGTH_BYTES or end > len(body):
        raise BodyMalformed.at(
            "body",
            "a safetensors file, that starts with its header's length",
            Words(f"{len(body)} bytes"),
        )
    if length > LONGEST_HEADER:
        raise BodyMalformed.at("body", f"a header of at most {LONGEST_HEADER} bytes", length)
    try:
        header = orjson.loads(body[LENGTH_BYTES:end])
    except orjson.JSONDecodeError as error:
        raise BodyMalformed.at("body", "a safetensors header in JSON", Words(error)) from error
    if not isinstance(header, dict):
        raise BodyMalformed.at("body", "a safetensors header that is an object", header)
    return header, memoryview(body)[end:]


def _tensor(name: str, entry: Any, data: memoryview, max_rank: int) -> Array:
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise BodyMalformed.at(name, "dtype, shape and two data_offsets", entry)
    if code not in DTYPE_OF:
        raise BodyMalformed.at(f"{name}.dtype", f"one of {', '.join(DTYPE_OF)}", code)
    if len(shape) > max_rank:
        raise LimitExceeded.at(f"{name}.shape", f"at most {max_rank} axes", len(shape))
    if not all(type(size) is int and size >= 0 for size in shape):
        raise BodyMalformed.at(f"{name}.shape", "non-negative integers", shape)
    kind = NUMPY[DTYPE_OF[code]]
    count = math.prod(shape)
    if bool in map(type, (begin, end)):
        raise BodyMalformed.at(f"{name}.data_offsets", "two whole numbers", [begin, end])
    if not 0 <= begin <= end <= len(data) or end - begin != count * kind.itemsize:
        expected = f"{count * kind.itemsize} bytes within the file"
        raise BodyMalformed.at(f"{name}.data_offsets", expected, [begin, end])
    try:
        return np.frombuffer(data[begin:end], kind).reshape(shape)
    except (ValueError, OverflowError) as error:
        # Beside an axis of 0, others may be longer than NumPy can count.
        raise BodyMalformed.at(f"{name}.shape", "axes that can be counted", shape) from error
