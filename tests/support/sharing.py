"""Costly work that the workers of one test run share, by locks on files."""

import contextlib
import fcntl
import os
import shutil


@contextlib.contextmanager
def alone(lock):
    """Exclude other processes that ask for the same lock, until the block ends.

    Args:
        lock: Path of the file that is locked; it is made if need be.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(factory, name, make):
    """Return a folder that ``make`` writes, in whichever worker asks for it first.

    Args:
        factory: Pytest's ``tmp_path_factory``.
        name: Name of the folder, one for each ``make``.
        make: Function of the path to write to; the folder is not there yet.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers
    folder, made = base / name, base / f"{name}.made"
    with alone(base / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # a worker may have failed half-way
            make(folder)
            made.touch()
    return folder
