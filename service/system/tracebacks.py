"""Release of the memory that errors keep alive through their tracebacks."""

from __future__ import annotations

import traceback


def clear_locals(error: BaseException) -> None:
    """Clear the local variables of the finished frames through which ``error`` was raised.

    A traceback keeps its frames alive, and frames keep bodies, documents and tensors alive. Where
    a frame also refers to the future that holds the error, the frame is part of a reference cycle.
    Only the cyclic garbage collector frees a cycle, and it may not run for hours: dictionaries of
    numbers do not count towards its threshold. The traceback keeps its lines, for the log.

    Every error that crosses from a thread or a future to the event loop passes through here.
    """
    for each in _chain(error):
        traceback.clear_frames(each.__traceback__)


def strip(error: BaseException) -> None:
    """Remove the traceback and the causes of ``error``, which is answered and never logged."""
    error.__traceback__ = error.__cause__ = error.__context__ = None


def _chain(error: BaseException) -> list[BaseException]:
    """Return ``error``, its causes and contexts."""
    found: dict[int, BaseException] = {}
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in found:
            found[id(each)] = each
            left += [each.__cause__, each.__context__]
    return list(found.values())
