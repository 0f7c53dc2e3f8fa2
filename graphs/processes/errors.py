"""Answers of workers that are no results.

Refused              the worker answers a request with an error
└── Lost             the worker ends, or is ended, before it answers
    └── NotStarted   the system does not start its program

Callers expect both: a runtime may refuse any model, crash or hang. They are therefore no part of
the tree in `graphs.errors`, whose errors end a command.
"""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - an expected answer, not a fault of this program
    """Error that a worker answered, such as a model that its runtime does not load.

    Args:
        reason: The reason in one line.
        message: The text of the worker's exception as it was; the reason if it is not given.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.message = message or reason


class Lost(Refused):
    """End of a worker that had not answered yet: it crashed, hung, or sent no valid response.

    Args:
        how: The end of a sentence about the task, such as ``took more than 2 seconds``.
        task: The beginning of that sentence, such as ``running the model``.
        late: True if the worker was ended because it exceeded the time limit.
    """

    def __init__(self, how: str, *, task: str = "", late: bool = False) -> None:
        super().__init__(f"{task} {how}".strip())
        self.how = how
        self.late = late


class NotStarted(Lost):
    """The program of a worker could not be started, which tells nothing about a model."""
