"""Arguments and options that several commands share, and the values that their texts stand for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import gatewave
from gatewave.cli.errors import UsageError, needing

if TYPE_CHECKING:
    from gatewave.graphs.verify.verification_plan import VerificationPlan

Word = TypeVar("Word", bound=str)

KERNELS = Path(gatewave.__file__).parent / "service" / "libgatewave.so"
"""Path of the library of our kernels, if it is built."""

INPUTS_HELP = "Real inputs: an .npz file with an array for each input's name"

ModelArgument = Annotated[Path, typer.Argument(help="An ONNX model. It is only read.")]

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for scripts.")]

VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Run both models on generated inputs; if they differ, nothing is written.",
    ),
]

ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", help="A parameter, such as gate=linear or alpha=1.702."),
]

InputsOption = Annotated[Path | None, typer.Option(help=f"{INPUTS_HELP}. They are tried first.")]

RtolOption = Annotated[
    float | None,
    typer.Option(min=0, help="Relative tolerance; by default 1e-4 in float32."),
]

AtolOption = Annotated[
    float | None,
    typer.Option(min=0, help="Tolerance relative to the tensor's scale; by default, --rtol."),
]

UlpOption = Annotated[float, typer.Option(min=0, help="Tolerance in units in the last place.")]

BudgetOption = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="Time for all cases together, such as 90s or 5m. Small cases run first; larger ones "
        "that do not fit are skipped, and reported.",
    ),
]

BUDGET = "60s"

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds in each unit of a time."""

TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?)([smh]?)")


def parameters(options: list[str] | None) -> dict[str, str | float]:
    """Return the values of `--param` by name: numbers where they are numbers, otherwise words.

    Raises:
        UsageError: A value is not of the form NAME=VALUE.
    """
    params: dict[str, str | float] = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--param: expected NAME=VALUE, got {option!r}")
        params[name] = _number_or_word(value)
    return params


def numbers(options: list[str] | None) -> dict[str, float]:
    """Return the values of `--param` by name, if all are numbers.

    Raises:
        UsageError: A value is not of the form NAME=NUMBER.
    """
    found = {}
    for name, value in parameters(options).items():
        if isinstance(value, str):
            raise UsageError(f"--param: {name} must be a number, not {value!r}")
        found[name] = value
    return found


def words(option: str, text: str | None, known: tuple[Word, ...]) -> tuple[Word, ...]:
    """Return the words of a list such as ``float32,float64``; all of ``known`` by default.

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


def choice(option: str, text: str, known: tuple[Word, ...]) -> Word:
    """Return the one of ``known`` that ``text`` is.

    Raises:
        UsageError: It is none of them.
    """
    if text not in known:
        raise UsageError(f"{option}: expected one of {', '.join(known)}, got {text!r}")
    return known[known.index(text)]


def seconds(option: str, text: str) -> float:
    """Return the seconds of a time such as ``90``, ``90s``, ``1.5m`` or ``2h``.

    Raises:
        UsageError: It is not a time above 0.
    """
    found = TIME.fullmatch(text.strip())
    time = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not time:
        raise UsageError(f"{option}: expected a time above 0, as 60s, 5m or 1h, got {text!r}")
    return time


def verification_plan(
    inputs: Path | None,
    rtol: float | None,
    atol: float | None,
    ulp: float,
    budget: str,
) -> VerificationPlan:
    """Return the settings of a comparison from a command's options.

    Raises:
        UsageError: ``inputs`` is not a file of arrays, or ``budget`` is not a time.
    """
    from gatewave.graphs.verify.allowance import Allowance
    from gatewave.graphs.verify.verification_plan import VerificationPlan

    return VerificationPlan(
        tolerance=Allowance(rtol, atol, ulp),
        inputs=None if inputs is None else arrays(inputs),
        kernels=KERNELS if KERNELS.exists() else None,
        budget=seconds("--budget", budget),
    )


def arrays(path: Path) -> dict[str, Any]:
    """Return the arrays in an .npz file, by name.

    Raises:
        UsageError: It is not an .npz file, or holds Python objects.
    """
    with needing("graphs"):
        from gatewave.graphs.files import npz
    try:
        return npz.read(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--inputs {path}: expected an .npz file of arrays: {error}") from error


def _number_or_word(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
