"""Ranges as target files write them: ``17..25``, ``..1.30``, ``24..``, or one value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

Key = tuple[int, ...]

VERSION = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Range from ``least`` to ``most``, both included; None is no limit."""

    least: Key | None = None
    most: Key | None = None

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """The range that ``text`` writes.

        Raises:
            ValueError: It is no range, or an empty one.
        """
        first, dots, last = text.partition("..")
        if not all(VERSION.fullmatch(end) for end in (first, last) if end) or not (first or last):
            raise ValueError(f"expected a range such as 17..25, ..1.30 or 24.., got {text!r}")
        least = _key(first)
        most = _key(last) if dots else least
        if least is not None and most is not None and least > most:
            raise ValueError(f"the range {text!r} is empty: it ends before it begins")
        return cls(least, most)

    def __contains__(self, value: Key | int) -> bool:
        key = value if isinstance(value, tuple) else (value,)
        return (self.least is None or key >= self.least) and (self.most is None or key <= self.most)

    def nearest(self, value: int) -> int:
        """``value``, or the end of the range that is nearest to it."""
        if self.least is not None and value < self.least[0]:
            return self.least[0]
        if self.most is not None and value > self.most[0]:
            return self.most[0]
        return value

    def __str__(self) -> str:
        least, most = (".".join(map(str, end)) if end else "" for end in (self.least, self.most))
        return least if least == most and least else f"{least}..{most}"


EVERY = VersionRange()


def version_key(text: str) -> Key:
    return tuple(int(part) for part in text.split("."))


def _key(text: str) -> Key | None:
    return version_key(text) if text else None


def _parsed(value: Any) -> Any:
    # YAML reads 24 as a number, and 1.3 as one that is not 1.30: versions are quoted.
    if isinstance(value, bool | float):
        raise ValueError(f"write the range in quotes: {value!r} is a number")  # noqa: TRY004
    return value if isinstance(value, VersionRange) else VersionRange.parse(str(value))


RangeField = Annotated[VersionRange, BeforeValidator(_parsed)]
