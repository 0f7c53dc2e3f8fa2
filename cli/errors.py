"""Errors that stop a command, with their exit status.

CommandError             1  the command could not be done
├── ExtraMissingError    1  it needs packages that are not installed
├── UsageError           2  the command line is wrong
└── FileError            2  a file of `gatewave eval` is wrong (`gatewave.cli.files.errors`)

Errors of the other rooms end a command too; `gatewave.cli.main` has their exit status.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Literal

Extra = Literal["graphs", "export", "cpu"]

RUNTIMES = "pip install 'gatewave[cpu]', or 'gatewave[gpu]' for CUDA"


class CommandError(Exception):
    """Ends the command with ``status``; the message is all that the user sees."""

    status: ClassVar[int] = 1


class ExtraMissingError(CommandError):
    """A package of an optional extra is not installed."""


class UsageError(CommandError):
    """The command line is wrong."""

    status = 2


@contextlib.contextmanager
def needing(extra: Extra) -> Iterator[None]:
    """Guard imports of packages that only the optional ``extra`` installs.

    Raises:
        ExtraMissingError: A package is missing; the message names it and the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == "gatewave":  # a defect of ours
            raise
        # Each extra is used with one of the two builds of ONNX Runtime, which exclude each other.
        how = RUNTIMES if package == "onnxruntime" else f"pip install 'gatewave[{extra}]'"
        raise ExtraMissingError(f"{package} is not installed, and this needs it: {how}") from error
