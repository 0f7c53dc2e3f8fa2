"""Files that appear when they are complete, and scratch files."""

from __future__ import annotations

import fcntl
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gatewave.cli.files.errors import FileAccessError, UnsupportedFileError, explained

STALE = re.compile(r"\.gatewave-[0-9a-f]{16}\.part")


class _Storage(io.FileIO):
    """File whose failed writes, such as on a full disk, are errors of ``owner``."""

    def __init__(self, path: Path, owner: Path) -> None:
        self._owner = owner
        with explained(owner):
            super().__init__(path, "x+b")

    def write(self, data: Any, /) -> int:
        with explained(self._owner):
            return super().write(data)


@contextmanager
def scratch_file(folder: Path, owner: Path | None = None) -> Iterator[io.BufferedRandom]:
    """Yield an empty file in ``folder`` that is removed when the block ends, also after an error.

    Raises:
        FileAccessError: The folder takes no file, or the disk is full. It names ``owner``, or else
            the folder.
    """
    _remove_stale(folder)
    while True:
        path = folder / f".gatewave-{secrets.token_hex(8)}.part"
        storage = _Storage(path, owner or folder)
        if _is_locked(storage):
            break
        storage.close()
    try:
        with io.BufferedRandom(storage) as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _is_locked(storage: _Storage) -> bool:
    """Lock a new file while its process runs; return False if another process removed it before."""
    # Without locks in the file system, stale files cannot be recognized, and all are kept.
    with suppress(OSError):
        fcntl.flock(storage, fcntl.LOCK_EX)
    return os.fstat(storage.fileno()).st_nlink > 0


def _remove_stale(folder: Path) -> None:
    """Remove the files of killed commands, on which no process holds a lock any more.

    `gatewave.graphs.files.scratch` does the same. It is not imported, because tables do not depend
    on graphs.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if STALE.fullmatch(path.name):
                with suppress(OSError):
                    _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


@contextmanager
def replacing(target: Path) -> Iterator[io.BufferedRandom]:
    """Yield a file that replaces ``target``, with its permissions, if the block ends without error.

    On any exception the target stays as it was. A symbolic link stays; the file it leads to is
    replaced.

    Raises:
        FileAccessError: The target's folder is missing or takes no file, or the disk is full.
        UnsupportedFileError: The target is a folder, a device or the like.
    """
    final = target.resolve()
    _check_place(target, final)
    with scratch_file(final.parent, target) as file:
        yield file
        file.flush()
        with explained(target):
            if final.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(final.stat().st_mode))
            os.fsync(file.fileno())
            Path(file.name).replace(final)
            _sync_folder(final.parent)


def _check_place(target: Path, final: Path) -> None:
    if not final.parent.is_dir():
        msg = f"{target}: there is no folder {final.parent}: make it first"
        raise FileAccessError(msg)
    if final.exists() and not final.is_file():
        msg = f"{target}: expected a file to replace or to make, and this is something else"
        raise UnsupportedFileError(msg)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power failure, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
