"""Folders for files that are being written, beside the files that they will replace.

A command that is killed leaves its folder behind. The process that writes a folder locks it, and
the kernel drops the lock when that process ends, however it ends. The next command that writes into
the same place removes folders without a lock. A process id in the name would not suffice: ids are
used again, and have no meaning in another container that shares the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".new-"
NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8,16}")


@contextlib.contextmanager
def folder_in(folder: Path) -> Iterator[Path]:
    """Make a folder in ``folder``, and remove it when the block ends, however it ends.

    Raises:
        OSError: It cannot be made.
    """
    remove_stale(folder)
    while (made := _locked(folder / f"{PREFIX}{secrets.token_hex(8)}")) is None:
        pass
    path, descriptor = made
    try:
        yield path
    finally:
        shutil.rmtree(path)
        os.close(descriptor)


def _locked(path: Path) -> tuple[Path, int] | None:
    """Make a folder and lock it; return None if another command removed it as stale meanwhile."""
    path.mkdir(mode=0o700)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    # Without locks in the file system, stale folders cannot be recognized, and all are kept.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if path.exists():
        return path, descriptor
    os.close(descriptor)
    return None


def remove_stale(folder: Path) -> None:
    """Remove folders in ``folder`` that were left by commands that have ended."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    """Remove ``path`` unless a process holds its lock.

    Raises:
        OSError: A process holds the lock, or the folder cannot be removed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    finally:
        os.close(descriptor)
