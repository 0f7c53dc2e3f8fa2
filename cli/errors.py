"""Errors that stop a command, with their exit status.

* CommandError       1
  - UsageError       2   the command line is wrong
  - ExtraMissing     1   the command needs packages that are not installed
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar


class CommandError(Exception):
    """Ends the command with ``status``; the message is all that the user sees."""

    status: ClassVar[int] = 1


class UsageError(CommandError):
    status = 2


class ExtraMissing(CommandError):  # noqa: N818 - a state
    pass


@contextlib.contextmanager
def needing(extra: str) -> Iterator[None]:
    """Around imports that only the optional ``extra`` installs."""
    try:
        yield
    except ModuleNotFoundError as error:
        msg = f"this needs {error.name}: pip install 'gatewave[{extra}]'"
        raise ExtraMissing(msg) from error
