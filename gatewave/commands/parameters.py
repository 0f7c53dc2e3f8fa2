"""The option `--param NAME=VALUE`, that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from gatewave.errors import UsageError

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


def _number_or_word(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
