"""Files of a model version, read into memory, so that the tried bytes are the served bytes.

ONNX Runtime maps external data into memory. A file that is truncated later ends the process with
SIGBUS, and a file that is overwritten in place changes the weights of a served model. Therefore the
trial reads the files and reports their digests. The serving process opens the model from its own
copy, after it has found the same digests.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader
from pathlib import Path

import numpy as np

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import ModelRefused
from gatewave.service.repository.onnx_file import (
    External,
    OnnxFile,
    inline_external_data,
    parse,
)

MODEL = "model.onnx"
MAX_GRAPH_BYTES = (1 << 31) - 1
"""Largest size of a Protocol Buffers message, in bytes."""
MAX_DATA_BYTES = 1 << 40
"""Largest file with external data; the total is also limited (GATEWAVE_MAX_MODEL_BYTES)."""
MAX_LOCATION_LENGTH = 1024
MAX_LOCATIONS = 10_000
"""Number of files with external data of one version; each takes an allocation and an open file."""

CHANGED = "the files changed while the model was loaded"


class FilesChanged(ModelRefused):
    """A file changed between the trial and the opening; another trial may succeed."""


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """The files of one version.

    Attributes:
        folder: ``<name>/<version>``.
        model: The ONNX file; it contains the tensors of subgraphs and functions.
        data: Contents of the files with external data, by location.
        digests: The SHA-256 of each file as it was read, by location.
    """

    folder: Path
    model: bytes
    data: Mapping[str, Array]
    digests: Mapping[str, str]

    @property
    def size(self) -> int:
        return len(self.model) + sum(content.nbytes for content in self.data.values())


def read_version(root: Path, folder: Path, most: int) -> tuple[OnnxFile, VersionFiles]:
    """Read the version in ``folder``; return its parsed ONNX file and the bytes of its files.

    Args:
        root: The repository.
        folder: ``<name>/<version>`` in it.
        most: Limit on the bytes of all its files.

    Raises:
        ModelRefused: It is not an ONNX file, is too large, or has tensors at a forbidden location.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ModelRefused(f"{folder.name}: a link points out of the repository")
    model = read(folder / MODEL, folder, min(MAX_GRAPH_BYTES, most))
    found = parse(model)
    locations = {external.location for external in found.externals}
    if len(locations) > MAX_LOCATIONS:
        raise ModelRefused(
            f"expected at most {MAX_LOCATIONS} files with tensors, got {len(locations)}"
        )
    # All locations are checked before the first of these files is opened.
    for external in found.externals:
        _check_location(external)
    ends = dict.fromkeys(locations, 0)
    for external in found.externals:
        ends[external.location] = max(ends[external.location], external.end)
    # The sizes are checked before memory is allocated; `_array` checks each size again, because a
    # file may have grown.
    _check_total(folder, locations, most - len(model))
    data = {location: _array(folder, location, ends[location]) for location in sorted(locations)}
    return found, _files(folder, model, data, _digests(model, data))


def read_tried(folder: Path, digests: Mapping[str, str], most: int) -> VersionFiles:
    """Read the files of a tried version again.

    Args:
        folder: The folder of the version.
        digests: The digests of the files as the trial read them.
        most: Limit on the bytes of all files.

    Raises:
        FilesChanged: The files differ from the tried ones.
    """
    locations = digests.keys() - {MODEL}
    try:
        model = read(folder / MODEL, folder, min(MAX_GRAPH_BYTES, most))
        _check_total(folder, locations, most - len(model))
        data = {location: _array(folder, location, 0) for location in sorted(locations)}
    except ModelRefused as error:
        raise FilesChanged(f"{CHANGED}: {error}") from error
    now = _digests(model, data)
    for location, digest in digests.items():
        if now[location] != digest:
            name = Path(location).name
            raise FilesChanged(f"{CHANGED}: {name} differs from the tried file")
    return _files(folder, model, data, now)


def _digests(model: bytes, data: Mapping[str, Array]) -> dict[str, str]:
    digests = {location: sha256(content.data).hexdigest() for location, content in data.items()}
    return {MODEL: sha256(model).hexdigest(), **digests}


def _files(
    folder: Path, model: bytes, data: Mapping[str, Array], digests: Mapping[str, str]
) -> VersionFiles:
    """Return the files; tensors of subgraphs and functions get their data inline."""
    whole = inline_external_data(model, data) if data else model
    if len(whole) > MAX_GRAPH_BYTES:
        expected = f"at most {MAX_GRAPH_BYTES} bytes with the tensors of subgraphs and functions"
        raise ModelRefused(f"{MODEL}: expected {expected}, got {len(whole)}")
    return VersionFiles(folder, whole, data, digests)


def read(path: Path, inside: Path, largest: int) -> bytes:
    """Return the contents of a file in the folder ``inside``.

    Raises:
        ModelRefused: The file is missing, not allowed (see `admit`), or not readable.
    """
    with _opened(path, inside, largest) as file, _reading(path):
        size = os.fstat(file.fileno()).st_size
        content = file.read(size)
    if len(content) < size:
        raise FilesChanged(f"{path.name}: the file became shorter while it was read")
    return content


def _array(folder: Path, location: str, end: int) -> Array:
    """Return the contents of a file with external data, which has at least ``end`` bytes."""
    path = folder / location
    with _opened(path, folder, MAX_DATA_BYTES) as file, _reading(path):
        size = os.fstat(file.fileno()).st_size
        if end > size:
            raise ModelRefused(f"{path.name}: expected {end} bytes or more, got {size}")
        content = np.empty(size, np.uint8)
        if file.readinto(content.data) < size:
            raise FilesChanged(f"{path.name}: the file became shorter while it was read")
    return content


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelRefused(f"{path.name}: the file cannot be read: {error.strerror}") from error


def _opened(path: Path, inside: Path, largest: int) -> BufferedReader:
    real, status = admit(path, inside, largest)
    with _reading(path):
        # Non-blocking, because a pipe may have replaced the file since the check: opening a pipe
        # waits for a writer.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    # The descriptor is compared with the checked file: the name may have been changed in between.
    now = os.fstat(descriptor)
    if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino):
        file.close()
        raise FilesChanged(f"{path.name}: the file was replaced while it was opened")
    return file


def admit(path: Path, inside: Path, largest: int) -> tuple[Path, os.stat_result]:
    """Check that a file may be opened; return its resolved path and its status.

    Raises:
        ModelRefused: The file is missing, not a regular file, outside the folder, hard-linked, or
            too large.
    """
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelRefused(f"{path.name}: the file does not exist") from error
    if not real.is_relative_to(inside.resolve()):
        raise ModelRefused(f"{path.name}: a link points out of {inside.name}")
    for is_wrong, reason in _faults(status, largest):
        if is_wrong:
            raise ModelRefused(f"{path.name}: {reason}")
    return real, status


def _faults(status: os.stat_result, largest: int) -> Iterator[tuple[bool, str]]:
    """Yield for each requirement whether the file violates it, and the message for that."""
    yield not stat.S_ISREG(status.st_mode), "expected a regular file"
    # A hard link may give a name to a file outside of the folder, such as a key of the service. The
    # path does not show it; only the number of links does. ONNX Runtime 1.32 follows hard links.
    yield status.st_nlink != 1, f"expected a file with one name, got {status.st_nlink} hard links"
    yield not status.st_size, "the file is empty"
    yield status.st_size > largest, f"expected at most {largest} bytes, got {status.st_size}"


def _check_location(external: External) -> None:
    location = external.location
    parts = location.split("/")
    # ONNX Runtime interprets the name */_ORT_MEM_ADDR_/* as an address in memory. Backslashes and
    # colons separate folders and drives on other systems.
    if set(location) & set("*\\\0:") or not location or len(location) > MAX_LOCATION_LENGTH:
        raise ModelRefused("the location of a tensor is not a relative path")
    if ".." in parts or location.startswith("/"):
        raise ModelRefused("the location of a tensor is out of the version's folder")


def _check_total(folder: Path, locations: Collection[str], most: int) -> None:
    sizes = [admit(folder / each, folder, MAX_DATA_BYTES)[1].st_size for each in locations]
    if sum(sizes) > most:
        expected = f"at most {max(0, most)} bytes of external data (GATEWAVE_MAX_MODEL_BYTES)"
        raise ModelRefused(f"expected {expected}, got {sum(sizes)}")
