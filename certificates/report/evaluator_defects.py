"""docs/evaluator.md: where the reference evaluator of onnx and ONNX Runtime give different results.

``python -m gatewave.certificates.report.evaluator_defects`` runs each operator of ONNX by both, at
every version and in every element type (see `evaluator_cases`), and writes the page. The reasons
were found by hand, and are in ``evaluator_reasons.yaml``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from gatewave.certificates.expected import Expected
from gatewave.certificates.node_comparison import arrays, kinds
from gatewave.certificates.report.evaluator_cases import Variant, variants
from gatewave.certificates.report.evaluator_page import EvaluatorOutcome, EvaluatorRow, text
from gatewave.certificates.runtimes.catalogue import PLAIN, RUNTIMES
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.processes.messages import Value
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.conditioning import nudges
from gatewave.graphs.verify.samples import Case
from gatewave.graphs.verify.tensor_difference import Difference

PAGE = Path("docs/evaluator.md")
COMMAND = "python -m gatewave.certificates.report.evaluator_defects"

PACKAGED = replace(
    RUNTIMES["reference"],
    name="onnx-evaluator",
    title="the reference evaluator of onnx",
    worker="onnx-evaluator.py",
)
"""The evaluator without our own operators."""

INVALID = ("INVALID_GRAPH", "Type Error", "ShapeInferenceError")
"""Messages of ONNX Runtime for an invalid model: the case is not valid ONNX."""


class Comparison:
    """The three processes that run each case.

    Args:
        seconds: Limit for one process and case.
    """

    def __init__(self, stack: ExitStack, seconds: float = 30.0) -> None:
        runtimes = PACKAGED, PLAIN, RUNTIMES["reference"]
        self._runnings = [stack.enter_context(RuntimeClient(one, seconds)) for one in runtimes]
        self._path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model.onnx"
        self._source = np.random.default_rng(0)

    def versions(self) -> dict[str, str]:
        """Return the versions of all packages that took part."""
        return self._runnings[0].versions() | self._runnings[1].versions()

    def row(self, variant: Variant) -> EvaluatorRow | None:
        """Return the result of one case; None if it is not valid or neither runs it."""
        self._path.write_bytes(variant.model.SerializeToString())
        packaged, runtime, ours = self._runnings
        want, got = self._ran(packaged, variant), self._ran(runtime, variant)
        if isinstance(got, str) and (isinstance(want, str) or any(w in got for w in INVALID)):
            return None
        if isinstance(want, str):
            return self._refused(variant, "refused by the evaluator", want)
        if isinstance(got, str):
            return self._refused(variant, "refused by ONNX Runtime", got)
        worst = self._difference(packaged, variant, want, got)
        if worst is None:
            return EvaluatorRow(variant.operator, variant.opsets, variant.dtype, "agree", 1, "")
        found = self._ran(ours, variant)
        mended = not isinstance(found, str) and self._difference(ours, variant, found, got) is None
        return EvaluatorRow(
            variant.operator,
            variant.opsets,
            variant.dtype,
            "differ",
            1,
            f"`{variant.test}`: {_shown(*worst)}",
            mended,
        )

    def _refused(self, variant: Variant, outcome: EvaluatorOutcome, why: str) -> EvaluatorRow:
        found = self._ran(self._runnings[2], variant) if "evaluator" in outcome else why
        ours = not isinstance(found, str)
        words = " ".join(why.split())
        return EvaluatorRow(
            variant.operator, variant.opsets, variant.dtype, outcome, 1, words, ours
        )

    def _ran(self, running: RuntimeClient, variant: Variant) -> dict[str, Value] | str:
        outputs = [port.name for port in variant.model.graph.output]
        try:
            running.load(self._path, [*variant.inputs], outputs, sequences=True)
            return running.run(variant.inputs)
        except Refused as error:
            return str(error)

    def _difference(
        self,
        running: RuntimeClient,
        variant: Variant,
        want: Mapping[str, Value],
        got: Mapping[str, Value],
    ) -> tuple[str, Difference] | None:
        """Return the output that differs most, if one does by more than roundings explain."""
        case, wanted, gotten = Case(variant.test, variant.inputs), arrays(want), arrays(got)
        if Expected(case, wanted, []).worst(gotten, Allowance()) is None:
            return None
        moves = [*nudges(case, self._source)]
        answers = [self._ran(running, replace(variant, inputs=dict(m.inputs))) for m in moves]
        moved = [arrays(answer) for answer in answers if not isinstance(answer, str)]
        alike = [one for one in moved if kinds(one) == kinds(wanted)]
        return Expected(case, wanted, alike).worst(gotten, Allowance())


def _shown(name: str, worst: Difference) -> str:
    place = worst.place
    if place is None:
        return name
    at = "" if place.index is None else str(list(place.index))
    return f"{name}{at} is {place.original} by the evaluator, {place.rewritten} by ONNX Runtime"


def rows(found: Iterable[EvaluatorRow]) -> list[EvaluatorRow]:
    """Return one row of each operator, opsets, type and outcome."""
    joined: dict[tuple[str, tuple[int, int | None], str, str], EvaluatorRow] = {}
    for row in found:
        key = row.operator, row.opsets, row.dtype, row.outcome
        known = joined.get(key)
        joined[key] = row if known is None else replace(
            known, cases=known.cases + 1, ours=known.ours and row.ours
        )  # fmt: skip
    return sorted(joined.values(), key=lambda row: (row.operator.lower(), row.opsets[0]))


def compared(operators: Sequence[str] = ()) -> tuple[list[EvaluatorRow], dict[str, str]]:
    """Run the cases of these operators, of all by default; return the rows, and the versions."""
    with ExitStack() as stack:
        comparison = Comparison(stack)
        versions = comparison.versions()
        status = stack.enter_context(Console(stderr=True).status("collecting", spinner="dots"))
        found = []
        for count, variant in enumerate(variants(operators)):
            status.update(f"{count} cases: {variant.operator}")
            found.append(comparison.row(variant))
    return rows(row for row in found if row is not None), versions


def main(
    output: Annotated[Path, typer.Option(help="The page to write.")] = PAGE,
    operators: Annotated[str, typer.Option(help="Names with commas; all by default.")] = "",
) -> None:
    """Compare onnx's reference evaluator with ONNX Runtime, and write docs/evaluator.md."""
    found, versions = compared([name for name in operators.split(",") if name])
    output.write_text(text(found, versions), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
