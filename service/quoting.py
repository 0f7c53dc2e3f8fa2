"""Quotation of values in messages: JSON, cut to a line.

Error messages name the value that was received. It comes from a caller and may be large, deep or
confidential, so messages quote at most one line of it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

MAX_QUOTE = 80
"""Longest quotation, in characters."""

MAX_QUOTE_DEPTH = 8
"""Deepest nesting that is quoted; deeper lists and objects are replaced by an ellipsis."""

CONFIDENTIAL = "confidential"
"""Type of pydantic errors whose input must not be quoted."""

OMITTED = " … "


class Words(str):
    """A description of the value that was received; it is written without quotation marks."""

    __slots__ = ()


NOTHING = Words("nothing")


def quoted(value: object) -> str:
    """Return ``value`` as JSON of at most one line, or `Words` as they are."""
    if isinstance(value, Words):
        return value
    return cut("".join(itertools.islice(_tokens(value, MAX_QUOTE_DEPTH), MAX_QUOTE)))


def cut(text: str) -> str:
    """Return ``text``, cut to the length of a quotation."""
    return text if len(text) <= MAX_QUOTE else f"{text[:MAX_QUOTE]}…"


def abridged(text: str, longest: int) -> str:
    """Return ``text``, without its middle if it is longer than ``longest``.

    The end is kept because the reason of a failure is at the end more often than in the middle.
    """
    if len(text) <= longest:
        return text
    half = (longest - len(OMITTED)) // 2
    return f"{text[:half]}{OMITTED}{text[-half:]}"


def _tokens(value: object, depth: int) -> Iterator[str]:
    """Yield the JSON of ``value`` in pieces, so that only the quoted part is encoded."""
    if isinstance(value, list | tuple):
        yield "["
        for index, item in enumerate(value):
            yield ", " if index else ""
            yield from _tokens(item, depth - 1) if depth else ("…",)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield f"{', ' if index else ''}{json.dumps(str(key)[:MAX_QUOTE])}: "
            yield from _tokens(item, depth - 1) if depth else ("…",)
        yield "}"
    else:
        plain = value[:MAX_QUOTE] if isinstance(value, str) else value
        yield json.dumps(plain, default=repr, ensure_ascii=False)
