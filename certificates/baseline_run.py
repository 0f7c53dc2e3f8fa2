"""Run of a model in two implementations, and search for the nodes in which they differ."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from gatewave.certificates.document import Baseline, BaselineLevel, DifferingNode
from gatewave.certificates.expected import Expected, moved_far
from gatewave.certificates.node_comparison import NodeWalk, WalkResult
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.errors import ModelError
from gatewave.graphs.files import files
from gatewave.graphs.processes.errors import Lost, Refused
from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify import random_outputs
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.case_plan import drawn
from gatewave.graphs.verify.comparison import unlike
from gatewave.graphs.verify.samples import Case, Samples, from_file, nudged
from gatewave.graphs.verify.tensor_difference import described

NUDGES = 2
"""Runs with perturbed inputs, each float moved to one of its two neighbours."""

# A refusal may be the fault of the case: its sizes may not fit the model. A case that the second
# runtime runs has no such fault.
MAX_REFUSED = 2
"""Cases that only the second runtime runs, after which the first counts as refusing the model."""

CASES_PER_WALK = 4
"""Cases whose values are held in memory at once while nodes are compared."""

# A rounding moves a quantised value by zero or by a whole step (ADR 32).
QUANTISERS = ("QuantizeLinear", "DynamicQuantize", "QLinear", "QGemm", "QAttention")
"""Prefixes of the names of operators that quantise."""

VARIABLE_SIZE = "its size changes with the last bits of the inputs"
DISAGREEMENT = "the two implementations give different values for it"


@dataclass(frozen=True)
class BaselineSettings:
    """Settings of a run.

    Attributes:
        seed: Seed of the generated inputs.
        tolerance: The allowed difference from the baseline.
        inputs: The caller's own inputs, instead of generated ones.
    """

    seed: int = 0
    tolerance: Allowance = Allowance()  # noqa: RUF009 - frozen
    inputs: Mapping[str, Array] | None = None


@dataclass
class BaselineRun:
    """Run of a model in two runtimes, of which the second may refuse it.

    Attributes:
        path: Its file.
        model: The same, read.
        runtimes: Both processes; those that run the model have loaded it.
        settings: Its settings.
        expected: The inputs that the first runtime takes, and its results.
        left_out: Outputs that cannot be compared, with the reason.
        whole: True if there was time for all inputs.
        second_ran: Number of cases that the second runtime runs, too.
        refusal: Its reason for refusing the others.
        disagreements: By case, results of the second runtime that differ from those of the first.
        walked: Comparison of the nodes; ``None`` if the outputs agree.
    """

    path: Path
    model: ir.Model
    runtimes: tuple[RuntimeClient, RuntimeClient]
    settings: BaselineSettings
    expected: list[Expected] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    whole: bool = True
    second_ran: int = 0
    refusal: str = ""
    disagreements: dict[str, dict[str, Array]] = field(default_factory=dict)
    walked: WalkResult | None = None

    def __post_init__(self) -> None:
        self._source = np.random.default_rng(self.settings.seed)
        self._stepped = _quantises(self.model)
        self._loaded = True
        self.left_out |= dict.fromkeys(
            random_outputs.outputs(self.model), "a random operator feeds it"
        )

    def run(self, refusal: str) -> None:
        """Run all cases; start no further case once they have taken the time limit of one run.

        The second runtime may run cases that the first refuses, to tell faults of the case apart.

        Args:
            refusal: The second runtime's reason for not loading the model; empty if it does.

        Raises:
            Refused: The first runtime refuses all cases.
            ModelError: The inputs given are not the model's own.
        """
        self.refusal, self._loaded = refusal, not refusal
        why = Refused("an input alone is too large to be generated")
        seconds = self.runtimes[0].seconds
        end = time.monotonic() + seconds
        refused = 0
        for case in self._cases():
            if time.monotonic() > end:
                self.whole = False
                break
            try:
                self.expected.append(self._run_first(case))
            except Lost:
                raise
            except Refused as error:
                why = error
                refused += not self.expected and self._second_runs(case)
            if refused == MAX_REFUSED:
                break
        if not self.expected:
            raise why
        self._compare_nodes(time.monotonic() + seconds)

    def baseline(self) -> Baseline:
        """Return the support of the values, and the nodes that differ or were not compared."""
        walked = self.walked or WalkResult()
        return Baseline(
            level=self._level(walked),
            by=tuple(running.runtime.title for running in self.runtimes),
            versions=self._versions(),
            nodes=walked.nodes,
            checked=walked.checked,
            unchecked=dict(walked.unchecked),
            differing=tuple(walked.differing.values()),
            refused=len(self.expected) - self.second_ran,
            refusal=self.refusal,
        )

    def _level(self, walked: WalkResult) -> BaselineLevel:
        known = [
            expected
            for expected in self.expected
            if expected.outputs.keys() - expected.without.keys() - self.left_out.keys()
        ]
        if not known:
            return "none"
        if not self.second_ran:
            return "single" if walked.unchecked else "checked"
        return "checked" if any(expected.other for expected in known) else "agreed"

    def _versions(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for running in self.runtimes:
            found |= running.versions()
        return found

    def _cases(self) -> Iterator[Case]:
        samples = Samples(self.model, self.settings.seed)
        if self.settings.inputs is None:
            yield from drawn(samples, lambda: len(self.expected))
            return
        case, wrong = from_file(self.settings.inputs, samples.inputs)
        if wrong:
            raise ModelError(f"{self.path}: the inputs given: {'; '.join(wrong)}")
        yield case

    def _run_first(self, case: Case) -> Expected:
        first, _ = self.runtimes
        outputs = first.run(case.inputs)
        if not self.expected:
            changing = unlike(outputs, first.run(case.inputs))
            self.left_out |= dict.fromkeys(changing, "it changes from run to run")
        move = moved_far if self._stepped else nudged
        moved = [first.run(move(case, self._source).inputs) for _ in range(NUDGES)]
        sizes = [
            name
            for name, want in outputs.items()
            if any(described(other[name]) != described(want) for other in moved)
        ]
        expected = Expected(
            case, outputs, moved, self._stepped, without=dict.fromkeys(sizes, VARIABLE_SIZE)
        )
        self._run_second(expected)
        return expected

    def _second_runs(self, case: Case) -> bool:
        if not self._loaded:
            return False
        try:
            self.runtimes[1].run(case.inputs)
        except Refused:
            return False
        return True

    def _run_second(self, expected: Expected) -> None:
        """Keep the second runtime's results that differ."""
        if not self._loaded:
            return
        try:
            got = self.runtimes[1].run(expected.case.inputs)
        except Refused as error:
            self.refusal = self.refusal or str(error)
            return
        self.second_ran += 1
        tolerance = self.settings.tolerance
        names = {*expected.outputs} - {*expected.without} - {*self.left_out}
        disagreements = {
            n: got[n] for n in names if expected.between(n, got[n], tolerance).used > 1
        }
        if disagreements:
            self.disagreements[expected.case.name] = disagreements

    def _compare_nodes(self, end: float) -> None:
        """Compare the nodes in the cases where the second runtime differs or fails."""
        if self.second_ran and not self.disagreements:
            return
        cases = [
            expected.case
            for expected in self.expected
            if not self.second_ran or expected.case.name in self.disagreements
        ]
        cases = cases if self.second_ran else cases[:NUDGES]
        model, settings = files.read(self.path), self.settings
        walk = NodeWalk(model, *self.runtimes, settings.tolerance, settings.seed)
        walked = WalkResult()
        for start in range(0, len(cases), CASES_PER_WALK):
            some = cases[start : start + CASES_PER_WALK]
            if walked.nodes and time.monotonic() > end:
                break
            walked = walk.walk(some, end)
        self.walked = walked
        self.expected = [self._with_findings(expected, walked) for expected in self.expected]

    def _with_findings(self, expected: Expected, walked: WalkResult) -> Expected:
        """Return ``expected`` with the findings on outputs for which the two runtimes disagree."""
        name = expected.case.name
        if not self.second_ran:
            # The nodes were compared on a few cases only, and an operator that differs there may
            # differ on all inputs.
            tainted = {o: one for found in walked.tainted.values() for o, one in found.items()}
            return replace(
                expected, without={**{o: _why(p) for o, p in tainted.items()}, **expected.without}
            )
        without, other = dict(expected.without), {}
        for output, got in self.disagreements.get(name, {}).items():
            differing = walked.tainted.get(name, {}).get(output)
            if differing is not None:
                without[output] = _why(differing)
            elif output not in walked.verified_outputs.get(name, ()):
                without[output] = f"{DISAGREEMENT}; {_unknown(walked)}"
            elif described(got) != described(expected.outputs[output]):
                without[output] = VARIABLE_SIZE
            else:
                other[output] = got
        return replace(expected, without=without, other=other)


def _why(differing: DifferingNode) -> str:
    return f"{differing.words()} is computed differently: {differing.says}"


def _unknown(walked: WalkResult) -> str:
    """Return the reason why the responsible node is not known."""
    if not walked.unchecked:
        return "there was no time to compare the nodes (--timeout)"
    node, why = next(iter(walked.unchecked.items()))
    return f"node {node} could not be compared: {why}"


def _quantises(model: ir.Model) -> bool:
    nodes = (node for scope in scopes(model) for node in scope.graph)
    return any(node.op_type.startswith(QUANTISERS) for node in nodes)
