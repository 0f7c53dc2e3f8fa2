"""Options that several commands take: `--param NAME=VALUE`, and lists of words."""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer

from gatewave.cli.errors import UsageError

Word = TypeVar("Word", bound=str)

ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", help="A parameter, as gate=linear or alpha=1.702."),
]


def parsed(options: list[str] | None) -> dict[str, str | float]:
    """The parameters by name: numbers where they are numbers, otherwise words.

    Raises:
        UsageError: One is not of the form NAME=VALUE.
    """
    params: dict[str, str | float] = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--param: expected NAME=VALUE, got {option!r}")
        params[name] = _number_or_word(value)
    return params


def words(option: str, text: str | None, known: tuple[Word, ...]) -> tuple[Word, ...]:
    """The words of a list such as ``float32,float64``; all of ``known`` if it is empty.

    Raises:
        UsageError: A word is not known.
    """
    if text is None:
        return known
    given = [word.strip() for word in text.split(",")]
    for word in given:
        if word not in known:
            raise UsageError(f"{option}: expected words of {', '.join(known)}, got {word!r}")
    return tuple(word for word in known if word in given)


def _number_or_word(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
