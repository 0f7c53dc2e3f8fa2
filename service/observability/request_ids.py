"""Ids of requests, which log lines and answers carry."""

from __future__ import annotations

import itertools
import re
import secrets
from contextvars import ContextVar

HEADER = "x-request-id"
HEADER_BYTES = HEADER.encode()

ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""Ids of callers that are safe in logs."""

_PROCESS = secrets.token_hex(10)
_NUMBERS = itertools.count(1)
# An id is the process's and a number: a random id for each request takes ten times as long.

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that is being answered."""


def identity_of(given: bytes | None) -> str:
    """Return the id of a request: the caller's, if it is safe in logs, or a new one."""
    if given is not None and ACCEPTABLE_ID.fullmatch(given):
        return given.decode()
    return f"{_PROCESS}{next(_NUMBERS):012x}"
