"""Lookup of external data, within the model's folder only.

An untrusted model may name any file as its data: ``/etc/passwd``, ``../../secrets``, a symbolic
link out of its folder, or a hard link to a file outside. Files are examined here without opening
them, and mapped into memory when the values of a tensor are used.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from gatewave.graphs.errors import ModelError
from gatewave.graphs.files.tensors import bytes_needed

# int() also takes signs, underscores, spaces and digits of other scripts; 2⁶³ has 19 digits.
NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class DataFolder:
    """The folder of a model, in which its external data must be.

    Attributes:
        path: Absolute, symbolic links resolved.
        sizes: The data files that were found to be safe, each with its length in bytes.
    """

    path: Path
    sizes: dict[Path, int] = field(default_factory=dict)

    def check(self, tensor: onnx.TensorProto, what: str) -> None:
        """Check that the data of ``tensor`` are in the folder, and as many bytes as it needs.

        Raises:
            ModelError: They are elsewhere, not there, or too few.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        size = self._size(location, what)
        needed = bytes_needed(tensor)
        offset = _number(entries.get("offset", "0"), "offset", what)
        length = _number(entries.get("length", str(needed)), "length", what)
        if length != needed:
            raise ModelError(f"{what}: takes {needed} bytes, but declares a length of {length}")
        if offset + length > size:
            raise ModelError(
                f"{what}: its data should end at byte {offset + length} of {location!r}, "
                f"which has {size} bytes"
            )

    def _size(self, location: str, what: str) -> int:
        _check_location(location, what)
        path = self.path / location
        if path not in self.sizes:
            self.sizes[path] = self._size_of(path, f"{what}: its data file {location!r}")
        return self.sizes[path]

    def _size_of(self, path: Path, what: str) -> int:
        try:
            # All links on the way are resolved: a folder inside may be a link, too.
            real = Path(os.path.realpath(path, strict=True))
            found = real.lstat()
        except OSError as error:
            raise ModelError(f"{what} cannot be read: {error.strerror}") from error
        if not real.is_relative_to(self.path):
            raise ModelError(
                f"{what} is a link out of the model's folder, which is not followed: "
                "copy the file itself there"
            )
        if not stat.S_ISREG(found.st_mode):
            raise ModelError(f"{what} is not a regular file")
        # A hard link has no target to resolve, so a file of another folder looks like our own.
        if found.st_nlink > 1:
            raise ModelError(
                f"{what} has {found.st_nlink} hard links, and may be a file of another folder: "
                "copy it"
            )
        return found.st_size


def _check_location(location: str, what: str) -> None:
    if not location or "\0" in location:
        raise ModelError(f"{what}: expected the name of its data file, got {location!r}")
    # Both rules are applied everywhere: on POSIX, "C:\\x" and "..\\x" are names of files.
    windows = PureWindowsPath(location)
    if PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        raise ModelError(
            f"{what}: its data file must be named relative to the model's folder, got {location!r}"
        )
    if ".." in windows.parts:
        raise ModelError(f"{what}: its data file is outside the model's folder: {location!r}")


def _number(text: str, name: str, what: str) -> int:
    if not NUMBER.fullmatch(text):
        raise ModelError(f"{what}: expected a whole number as its {name}, got {text[:40]!r}")
    return int(text)
