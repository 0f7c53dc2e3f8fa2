"""Errors in files, and their messages."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES_SHOWN = 20


class FileError(Exception):
    """A file cannot be evaluated; the message names it, the expected content and the actual one."""


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
    """Tell errors of the operating system, and those that mean ``damage``, as errors of ``path``.

    Raises:
        FileAccessError: An `OSError` of the operating system.
        DamagedFileError: One of ``damage``, or an `OSError` that was made by a codec, or comes
            from a place to read at that was itself read wrongly.
    """
    damages: tuple[type[Exception], ...] = (OSError, *damage)
    try:
        yield
    except damages as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            msg = f"{path}: {error.strerror}"
            raise FileAccessError(msg) from error
        why = " ".join(str(error).split()) or type(error).__name__
        msg = f"{path}: is damaged, or no {path.suffix} file: {why}"
        raise DamagedFileError(msg) from error


def require_names(path: Path, noun: str, wanted: Iterable[str], there: Iterable[str]) -> None:
    """See that each wanted array, tensor or column is there.

    Raises:
        ContentError: One is missing; the message lists those that are there.
    """
    missing = set(wanted).difference(there)
    if missing:
        msg = f"{path}: no {noun} {listed(sorted(missing))}; there are {listed(there)}"
        raise ContentError(msg)


def listed(names: Iterable[str]) -> str:
    """``'a', 'b', 'c'``: the names for a message, cut short where there are many."""
    every = [repr(name) for name in names]
    more = [f"and {len(every) - NAMES_SHOWN} more"] if len(every) > NAMES_SHOWN else []
    return ", ".join([*every[:NAMES_SHOWN], *more]) or "none"
