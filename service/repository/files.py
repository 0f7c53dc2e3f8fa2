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
from gatewave.service.repository.contents import Contents, External, contents, inlined

MODEL = "model.onnx"
LARGEST_GRAPH = (1 << 31) - 1
"""Largest size of a Protocol Buffers message, in bytes."""
LARGEST_DATA = 1 << 40
MAX_LOCATION_LENGTH = 1024
MAX_LOCATIONS = 10_000
"""Files with external data of one version; each takes an allocation and an open file."""


class FilesChanged(ModelRefused):
    """A file changed between the trial and the opening: another trial may succeed."""


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


def read_version(root: Path, folder: Path, most: int) -> tuple[Contents, VersionFiles]:
    """Read the version in ``folder``; return the contents of its ONNX file, and its files.

    Args:
        root: The repository.
        folder: ``<name>/<version>`` in it.
        most: Limit on the bytes of all its files.

    Raises:
        ModelRefused: It is not an ONNX file, is too large, or has tensors at a forbidden location.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ModelRefused(f"{folder.name}: a link leads out of the repository")
    model = read(folder / MODEL, folder, min(LARGEST_GRAPH, most))
    found = contents(model)
    locations = {external.location for external in found.externals}
    if len(locations) > MAX_LOCATIONS:
        raise ModelRefused(
            f"expected at most {MAX_LOCATIONS} files with tensors, got {len(locations)}"
        )
    for external in found.externals:
        _check_location(external)
    ends = dict.fromkeys(locations, 0)
    for external in found.externals:
        ends[external.location] = max(ends[external.location], external.end)
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
        model = read(folder / MODEL, folder, min(LARGEST_GRAPH, most))
        _check_total(folder, locations, most - len(model))
        data = {location: _array(folder, location, 0) for location in sorted(locations)}
    except ModelRefused as error:
        raise FilesChanged(f"its files changed while it was loaded: {error}") from error
    now = _digests(model, data)
    for location, digest in digests.items():
        if now[location] != digest:
            changed = f"{Path(location).name} is not what was tried"
            raise FilesChanged(f"its files changed while it was loaded: {changed}")
    return _files(folder, model, data, now)


def _digests(model: bytes, data: Mapping[str, Array]) -> dict[str, str]:
    digests = {location: sha256(content.data).hexdigest() for location, content in data.items()}
    return {MODEL: sha256(model).hexdigest(), **digests}


def _files(
    folder: Path, model: bytes, data: Mapping[str, Array], digests: Mapping[str, str]
) -> VersionFiles:
    whole = inlined(model, data) if data else model
    if len(whole) > LARGEST_GRAPH:
        expected = f"at most {LARGEST_GRAPH} bytes with the tensors of subgraphs and functions"
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
        raise FilesChanged(f"{path.name}: it became shorter while it was read")
    return content


def _array(folder: Path, location: str, end: int) -> Array:
    """Return the contents of a file with external data, which has at least ``end`` bytes."""
    path = folder / location
    with _opened(path, folder, LARGEST_DATA) as file, _reading(path):
        size = os.fstat(file.fileno()).st_size
        if end > size:
            raise ModelRefused(f"{path.name}: expected {end} bytes or more, got {size}")
        content = np.empty(size, np.uint8)
        if file.readinto(content.data) < size:
            raise FilesChanged(f"{path.name}: it became shorter while it was read")
    return content


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelRefused(f"{path.name}: it cannot be read: {error.strerror}") from error


def _opened(path: Path, inside: Path, largest: int) -> BufferedReader:
    real, status = admit(path, inside, largest)
    with _reading(path):
        # Non-blocking: a pipe may have replaced the file since the check.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    now = os.fstat(descriptor)
    if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino):
        file.close()
        raise FilesChanged(f"{path.name}: it was replaced while it was opened")
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
        raise ModelRefused(f"{path.name}: there is no such file") from error
    if not real.is_relative_to(inside.resolve()):
        raise ModelRefused(f"{path.name}: a link leads out of {inside.name}")
    for wrong, why in _unfit(status, largest):
        if wrong:
            raise ModelRefused(f"{path.name}: {why}")
    return real, status


def _unfit(status: os.stat_result, largest: int) -> Iterator[tuple[bool, str]]:
    yield not stat.S_ISREG(status.st_mode), "expected a regular file"
    # A hard link may lead to a file outside, and only the number of links reveals it.
    yield status.st_nlink != 1, f"expected a file with one name, got {status.st_nlink} hard links"
    yield not status.st_size, "it is empty"
    yield status.st_size > largest, f"expected at most {largest} bytes, got {status.st_size}"


def _check_location(external: External) -> None:
    location = external.location
    parts = location.split("/")
    # ONNX Runtime interprets some names with asterisks as addresses in memory.
    if set(location) & set("*\\\0:") or not location or len(location) > MAX_LOCATION_LENGTH:
        raise ModelRefused("a tensor's location is not a relative path")
    if ".." in parts or location.startswith("/"):
        raise ModelRefused("a tensor's location leads out of the version's folder")


def _check_total(folder: Path, locations: Collection[str], most: int) -> None:
    sizes = [admit(folder / each, folder, LARGEST_DATA)[1].st_size for each in locations]
    if sum(sizes) > most:
        expected = f"at most {max(0, most)} bytes of external data (GATEWAVE_MAX_MODEL_BYTES)"
        raise ModelRefused(f"expected {expected}, got {sum(sizes)}")
