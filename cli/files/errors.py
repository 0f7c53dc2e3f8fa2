"""Errors in the files of `gatewave eval`, and their messages."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gatewave.cli.errors import CommandError

NAMES_SHOWN = 20


class FileError(CommandError):
    """A file cannot be evaluated; the message names it, the expected content and the actual one."""

    status = 2


class FileAccessError(FileError):
    """The file is not there, may not be read or written, or the disk failed."""


class UnsupportedFileError(FileError):
    """The format, or the conversion between the two formats, cannot carry the request."""


class DamagedFileError(FileError):
    """The file is cut short or corrupt, or has another format than its suffix."""


class ContentError(FileError):
    """The file is sound, but its content does not fit the function."""


@contextmanager
def explained(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Raise errors of the operating system, and those that mean ``damage``, as errors of ``path``.

    Raises:
        FileAccessError: An `OSError` of the operating system.
        DamagedFileError: One of ``damage``; or an `OSError` raised by a codec, or by a seek to an
            offset that the file itself holds.
    """
    damages: tuple[type[Exception], ...] = (OSError, *damage)
    try:
        yield
    except damages as error:
        # Codecs raise OSError without a number; seeking to a negative offset raises EINVAL.
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            msg = f"{path}: {error.strerror}"
            raise FileAccessError(msg) from error
        why = " ".join(str(error).split()) or type(error).__name__
        msg = f"{path}: is damaged, or no {path.suffix} file: {why}"
        raise DamagedFileError(msg) from error


def require_names(path: Path, noun: str, wanted: Iterable[str], there: Iterable[str]) -> None:
    """Require each wanted array, tensor or column.

    Raises:
        ContentError: One is missing; the message lists those that are there.
    """
    missing = set(wanted).difference(there)
    if missing:
        msg = f"{path}: no {noun} {listed(sorted(missing))}; there are {listed(there)}"
        raise ContentError(msg)


def listed(names: Iterable[str]) -> str:
    """Return ``'a', 'b', 'c'``: names for a message, at most `NAMES_SHOWN` of them."""
    every = [repr(name) for name in names]
    more = [f"and {len(every) - NAMES_SHOWN} more"] if len(every) > NAMES_SHOWN else []
    return ", ".join([*every[:NAMES_SHOWN], *more]) or "none"
