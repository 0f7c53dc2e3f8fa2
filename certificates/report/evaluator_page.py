"""The page docs/evaluator.md, and the reasons that it gives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import resources
from typing import Any, Literal

import yaml

from gatewave.export import machine
from gatewave.export.markdown import bullets, page, plain, table
from gatewave.graphs.strict_model import StrictModel

COMMAND = "make evaluator"

EvaluatorOutcome = Literal["agree", "differ", "refused by the evaluator", "refused by ONNX Runtime"]

INTRODUCTION = f"""\
# The reference evaluator of onnx, and ONNX Runtime

<!-- Written by `{COMMAND}`; the reasons are in certificates/report/evaluator_reasons.yaml. -->

The baseline of a certificate uses the reference evaluator of the onnx package. So does the
verification of a rewrite that ONNX Runtime does not run. The evaluator is not the standard: this
page lists each operator, opset and element type for which it differs from ONNX Runtime.

Both ran each node test of the onnx package, with each version of the operator and each element type
that this version accepts. ONNX Runtime ran without its graph optimisations. Floats may differ as in
`gatewave verify`, or by some hundred times the effect of a change in the last bits of the inputs.

- *right*: the implementation that follows the text of the standard.
- *here*: "agrees" if Gatewave's evaluator (`graphs/verify/evaluator.py`, which replaces some
  operators) agrees with ONNX Runtime.

If the two differ, a certificate uses neither: it names the node, and its verdict is "no
baseline"."""

REFUSED = (
    "For each operator: opsets, and the types without a kernel in ONNX Runtime there, or refused "
    "in some of the cases."
)

UNKNOWN = "not investigated"


class Reason(StrictModel):
    """Reason for different results.

    Attributes:
        operators: Patterns of their names.
        opsets: First opsets of the versions that have it; all, by default.
        dtypes: Patterns of element types.
        right: The one that computes the result of the standard's text.
        why: The reason, in words.
    """

    operators: tuple[str, ...]
    opsets: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ("*",)
    right: Literal["ONNX Runtime", "the evaluator", "both", "neither", "not determined"]
    why: str

    def holds(self, row: EvaluatorRow) -> bool:
        return (
            any(fnmatch(row.operator, pattern) for pattern in self.operators)
            and (not self.opsets or row.opsets[0] in self.opsets)
            and any(fnmatch(row.dtype, pattern) for pattern in self.dtypes)
        )


@dataclass(frozen=True)
class EvaluatorRow:
    """An operator at some opsets, in one element type.

    Attributes:
        operator: Name of the operator, with its domain unless that is ONNX's own.
        opsets: The first and the last that have this version of it; no last one for the newest.
        dtype: Element type of its first input.
        outcome: The result of the cases of this kind.
        cases: The number of cases.
        example: A test, and the results of both, or the message of a refusal.
        ours: True if the evaluator with our own operators agrees in all of them.
    """

    operator: str
    opsets: tuple[int, int | None]
    dtype: str
    outcome: EvaluatorOutcome
    cases: int
    example: str
    ours: bool = False


@functools.cache
def reasons() -> tuple[Reason, ...]:
    """Return the known reasons; the first that matches a row counts."""
    text = (resources.files(__package__) / "evaluator_reasons.yaml").read_text(encoding="utf-8")
    return tuple(Reason.model_validate(entry) for entry in yaml.safe_load(text))


def text(rows: Sequence[EvaluatorRow], versions: Mapping[str, str]) -> str:
    """Return the page."""
    of = {outcome: [row for row in rows if row.outcome == outcome] for outcome in OUTCOMES}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    cases, operators = sum(row.cases for row in rows), len({row.operator for row in rows})
    made = (
        f"Made on {machine.today()}, on {machine.words()}, with {packages}. {cases} cases of "
        f"{operators} operators: {_counted(of)}."
    )
    return page(
        [
            INTRODUCTION,
            made,
            "## Different results",
            table(
                ("operator", "opsets", "types", "cases", "right", "here", "why", "example"),
                _differing(of["differ"]),
            ),
            "## Refused by the evaluator",
            table(
                ("operator", "opsets", "types", "cases", "here", "words"),
                _refusals(of["refused by the evaluator"]),
            ),
            "## Refused by ONNX Runtime",
            REFUSED,
            bullets(_types(of["refused by ONNX Runtime"])),
        ]
    )


OUTCOMES: tuple[EvaluatorOutcome, ...] = (
    "agree",
    "differ",
    "refused by the evaluator",
    "refused by ONNX Runtime",
)


def _counted(of: Mapping[EvaluatorOutcome, Sequence[EvaluatorRow]]) -> str:
    counts = {outcome: sum(row.cases for row in found) for outcome, found in of.items()}
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def reason_of(row: EvaluatorRow) -> Reason | None:
    """Return the known reason for ``row``."""
    return next((reason for reason in reasons() if reason.holds(row)), None)


def _differing(rows: Iterable[EvaluatorRow]) -> Iterator[tuple[str, ...]]:
    for group in _grouped(rows, lambda row: (row.operator, row.opsets, reason_of(row))):
        reason, first = reason_of(group[0]), group[0]
        yield (
            f"`{first.operator}`",
            _span(first.opsets),
            ", ".join(row.dtype for row in group),
            str(sum(row.cases for row in group)),
            reason.right if reason else "",
            "agrees" if all(row.ours for row in group) else "",
            reason.why if reason else UNKNOWN,
            plain(first.example),
        )


def _refusals(rows: Iterable[EvaluatorRow]) -> Iterator[tuple[str, ...]]:
    for group in _grouped(rows, lambda row: (row.operator, row.opsets)):
        first = group[0]
        yield (
            f"`{first.operator}`",
            _span(first.opsets),
            ", ".join(row.dtype for row in group),
            str(sum(row.cases for row in group)),
            "runs it" if all(row.ours for row in group) else "",
            plain(first.example),
        )


def _types(rows: Iterable[EvaluatorRow]) -> Iterator[str]:
    for of_operator in _grouped(rows, lambda row: row.operator):
        versions = _grouped(of_operator, lambda row: row.opsets)
        words = "; ".join(
            f"{_span(version[0].opsets)}: {', '.join(row.dtype for row in version)}"
            for version in versions
        )
        yield f"`{of_operator[0].operator}` {words}"


def _grouped(
    rows: Iterable[EvaluatorRow], key: Callable[[EvaluatorRow], Any]
) -> list[list[EvaluatorRow]]:
    found: dict[Any, list[EvaluatorRow]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.values())


def _span(opsets: tuple[int, int | None]) -> str:
    first, last = opsets
    if last is None:
        return f"from {first}"
    return str(first) if first == last else f"{first}–{last}"
