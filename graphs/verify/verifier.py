"""Verification of a rewritten model: run it and its original, and compare their outputs."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from gatewave.graphs.errors import ModelError, NotRunnableError
from gatewave.graphs.files import files
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.processes.messages import Value
from gatewave.graphs.verify import coarse_operators, inner_values, random_outputs
from gatewave.graphs.verify.budget import Budget, Cost
from gatewave.graphs.verify.case_plan import CaseDraft, CasePlan, GivenCase
from gatewave.graphs.verify.changed_parts import ChangedParts, parts
from gatewave.graphs.verify.comparison import compared, joined, unlike
from gatewave.graphs.verify.conditioning import excused, is_lost, movement, nudges
from gatewave.graphs.verify.ports import disagreements
from gatewave.graphs.verify.report import Compared, Dropped, Ran, Report
from gatewave.graphs.verify.runners import (
    WORDS,
    Restarted,
    RunnerKind,
    Task,
    choose,
    unknown_domains,
)
from gatewave.graphs.verify.samples import Case, Samples, from_file, nudged
from gatewave.graphs.verify.thresholds import MAX_FAILURES, MAX_SHAPES
from gatewave.graphs.verify.verification_plan import VerificationPlan

NOISY = "rounding the inputs changes the original by about as much"

DEFAULT = VerificationPlan()


def verify(original: Path, rewritten: Path, plan: VerificationPlan = DEFAULT) -> Report:
    """Compare ``rewritten`` with ``original`` on sampled inputs.

    Both models must have the same inputs and outputs. Every output must be equal, floats up to a
    tolerance, in cases that are drawn from what the original takes: see `samples` and
    `input_shapes`. Each model runs in a process of its own, which may crash or hang: see `runners`.
    A case that the original refuses is dropped; a case that only the rewritten model refuses is a
    failure.

    Raises:
        ModelError: A file is no sound model, or the original refuses the inputs given.
        NotRunnableError: No runtime runs the original, or it refuses all generated inputs.
    """
    models = files.read(original), files.read(rewritten)
    unlike_ports = disagreements(*models)
    if unlike_ports:
        return Report(str(original), str(rewritten), plan.seed, disagreements=unlike_ports)
    notes = coarse_operators.notes(models)
    if notes:
        plan = replace(plan, tolerance=replace(plan.tolerance, coarse=True))
    with contextlib.ExitStack() as stack:
        found = _Verifier(models, (original, rewritten), plan, stack).report()
    return replace(found, notes=[*notes, *found.notes])


@dataclass
class _Verifier:
    models: tuple[ir.Model, ir.Model]
    paths: tuple[Path, Path]
    plan: VerificationPlan
    stack: contextlib.ExitStack
    ran: list[Ran] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    failures: list[Dropped] = field(default_factory=list)
    unstable: set[str] = field(default_factory=set)
    found: list[Compared] = field(default_factory=list)
    skipped: list[tuple[CaseDraft | GivenCase, str]] = field(default_factory=list)
    sized: int = 0
    reported: list[Compared] = field(default_factory=list)
    judged: bool = False
    parts: ChangedParts | None = None

    def __post_init__(self) -> None:
        self.samples = Samples(self.models[0], self.plan.seed, self.models[1])
        self.draws = random_outputs.draws(self.models, self.plan.seed)
        self.random = random_outputs.outputs(self.models[0], self.draws.replaced)

    def report(self) -> Report:
        with ThreadPoolExecutor(2) as pool:  # both processes start at once
            first = pool.submit(self._loaded, "original", 0, self._runtimes(0))
            second = pool.submit(self._rewritten)
        original = first.result()
        try:
            rewritten = second.result()
        except NotRunnableError as error:
            self.failures.append(Dropped("any inputs", str(error)))
            return self._report([], [])
        self.parts = parts(
            self.models, (self._task(0), self._task(1)), original, rewritten, self.plan
        )
        self._compare_all(original, rewritten)
        if not self.cases and not self.failures:
            raise NotRunnableError(
                f"{self.paths[0]}: it refuses all inputs that were generated; --inputs can bring "
                f"real ones. {self._refusal()}"
            )
        sites, unseen = self._interior(original.runtime, rewritten[-1].runtime)
        unseen += self._compare_parts()
        return self._report(joined([*sites, *(self.parts.found if self.parts else [])]), unseen)

    def _compare_all(self, original: Restarted, rewritten: Sequence[Restarted]) -> None:
        """Compare one case after the other, within the budget."""
        budget = Budget(self.plan.budget)
        for draft in self._drafts():
            if len(self.failures) >= MAX_FAILURES:
                break
            # The first case runs in any case: a report without one has no verdict.
            refusal = budget.refuses(draft.elements) if self.cases or self.dropped else ""
            if refusal:
                self.skipped.append((draft, refusal))
                continue
            count, began = len(self.cases), time.monotonic()
            self._compare(draft.drawn(self.samples), original, rewritten)
            if len(self.cases) > count:
                self.sized += draft.searched
                grown = max(model.runner.grown for model in (original, *rewritten))
                budget.add(draft.elements, Cost(time.monotonic() - began, grown))

    def _compare_parts(self) -> list[Dropped]:
        """Compare the changed parts on the smallest case and the largest of normal numbers."""
        if self.parts is None or not self.plan.local:
            return []
        # `CasePlan` starts with normal numbers in each accepted shape.
        normal = self.cases[: max(1, self.sized)]
        try:
            for case in normal[:1] + normal[1:][-1:]:
                self.parts.compare(case)
        except Refused as error:
            return [Dropped("the changed parts by themselves", str(error))]
        return []

    def _interior(self, *runtimes: RunnerKind) -> tuple[list[Compared], list[Dropped]]:
        tasks = self._task(0), self._task(1)
        return inner_values.compare(self.models, tasks, runtimes, self.cases, self.plan)

    def _report(self, sites: list[Compared], unseen: list[Dropped]) -> Report:
        original, rewritten = map(str, self.paths)
        over = self._over_budget()
        return Report(
            original,
            rewritten,
            self.plan.seed,
            planned=len(self.cases) + len(over) if over else 0,
            budget=self.plan.budget,
            ran=sorted(self.ran, key=lambda ran: ran.model),
            cases=[case.name for case in self.cases],
            dropped=[*self.dropped, *over],
            outputs=joined(self._stable(self.found)),
            sites=sites,
            unseen=unseen,
            failures=self.failures,
            reported=joined(self.reported),
            notes=[*self.draws.notes, *self._reported_notes()],
        )

    def _task(self, which: int) -> Task:
        return Task(self.paths[which], self.plan.kernels, self.plan.timeout, fixed=self.draws.fixed)

    def _runtimes(self, which: int) -> list[RunnerKind]:
        return self._task(which).runtimes()

    def _loaded(self, name: str, which: int, runtimes: Sequence[RunnerKind]) -> Restarted:
        task = self._task(which)
        chosen = choose(task, runtimes, unknown_domains(self.models[which]))
        self.ran.append(Ran(name, WORDS[chosen.runner.runtime], chosen.why))
        model = Restarted(task, chosen.runner.runtime, chosen.runner)
        self.stack.callback(model.close)
        return model

    def _rewritten(self) -> list[Restarted]:
        """Load the rewritten model; a second time with kernels, if it has operators of ours."""
        runtimes: list[RunnerKind] = ["onnxruntime"] if self.plan.native else self._runtimes(1)
        first = self._loaded("rewritten", 1, runtimes)
        # Without kernels ONNX Runtime runs the function bodies. A user may have either.
        ours = DOMAIN in self.models[1].opset_imports
        if not self.plan.kernels or not ours or first.runtime != "onnxruntime":
            return [first]
        try:
            return [first, self._loaded("rewritten", 1, ["onnxruntime with kernels"])]
        except NotRunnableError as error:
            self.dropped.append(Dropped("the rewritten model with the kernels", str(error)))
            return [first]

    def _drafts(self) -> Iterator[CaseDraft | GivenCase]:
        if self.plan.inputs is not None:
            yield GivenCase(self._given())
        if self.plan.inputs is None or self.samples.can_draw():
            yield from CasePlan(self.samples, lambda: len(self.cases))

    def _over_budget(self) -> list[Dropped]:
        """Return the cases that were left out for time or memory."""
        searched = [one for one in self.skipped if one[0].searched]
        wanted = max(0, MAX_SHAPES - self.sized)
        ranges = {one[0].range: one for one in reversed(self.skipped) if not one[0].searched}
        kept = [*searched[:wanted], *reversed(ranges.values())]
        return [Dropped(draft.name, why) for draft, why in kept]

    def _refusal(self) -> str:
        if not self.dropped:
            return "An input alone is too large to be generated"
        return f"The first refusal: {self.dropped[0].why}"

    def _given(self) -> Case:
        case, wrong = from_file(self.plan.inputs or {}, self.samples.inputs)
        if wrong:
            raise ModelError(f"{self.paths[0]}: the inputs given: {'; '.join(wrong)}")
        return case

    def _compare(self, case: Case, original: Restarted, rewritten: Sequence[Restarted]) -> None:
        wanted = self._wanted(case, original)
        if wanted is None:
            return
        for model in rewritten:
            try:
                got = model.run(case.inputs)
            except Refused as error:
                self.failures.append(Dropped(case.name, str(error)))
            else:
                runtime = WORDS[model.runtime]
                own = self.parts.changed.outputs if self.parts and self.plan.local else ()
                found = list(compared(case, wanted, got, runtime, self.plan, replaced=own))
                self.found += self._without_noise(case, original, wanted, found)
        self.cases.append(case)

    def _wanted(self, case: Case, original: Restarted) -> dict[str, Value] | None:
        """Return the original's outputs; ``None`` if it refuses the inputs."""
        try:
            wanted = original.run(case.inputs)
            # One repetition shows most random outputs; `_without_noise` finds the rest.
            if not self.cases:
                self._leave_out(unlike(wanted, original.run(case.inputs)))
        except Refused as error:
            if self.plan.inputs is not None and not self.cases:
                raise ModelError(
                    f"{self.paths[0]}: it refuses the inputs given: {error}"
                ) from error
            self.dropped.append(Dropped(case.name, str(error)))
            return None
        return wanted

    def _leave_out(self, names: Iterable[str]) -> None:
        """Leave out outputs that change from run to run: they cannot be compared in any case."""
        new = {*names} - self.unstable
        self.unstable |= new
        self.dropped += [
            Dropped(f"output {name}", "it changes from run to run") for name in sorted(new)
        ]

    def _without_noise(
        self, case: Case, original: Restarted, wanted: Mapping[str, Value], found: list[Compared]
    ) -> list[Compared]:
        """Drop differences that are no evidence: of random outputs, and of noise in the original.

        A random output may look constant at first: a coin with a small probability seldom changes.
        The original is therefore run again if there is a difference, and outputs that a random
        operator feeds are left out in any case.

        On extreme inputs the original may have no correct digit, as the sine of 1e30. It is run
        again with each float replaced by the next one: if that changes an output by about as much,
        the difference is not due to the rewrite.
        """
        if all(one.holds for one in self._stable(found)):
            return found
        try:
            self._leave_out(unlike(wanted, original.run(case.inputs)))
            self._leave_out(one.name for one in found if not one.holds and self._is_drawn(one))
            if self.plan.strict or all(one.holds for one in self._stable(found)):
                return found
            if case.extreme:
                found = self._without_lost_digits(case, original, wanted, found)
            # At a threshold of the model any step of the input changes the result.
            if case.thresholds or all(one.holds for one in self._stable(found)):
                return found
            return self._excused(case, original, wanted, found)
        except Refused:
            return found

    def _without_lost_digits(
        self, case: Case, original: Restarted, wanted: Mapping[str, Value], found: list[Compared]
    ) -> list[Compared]:
        moved = original.run(nudged(case).inputs)
        noise = {one.name: one for one in compared(case, wanted, moved, "", self.plan)}
        noisy = [one.name for one in self._stable(found) if is_lost(one, noise[one.name])]
        self.dropped += [Dropped(f"{case.name}: output {name}", NOISY) for name in noisy]
        return [one for one in found if one.name not in noisy]

    def _excused(
        self, case: Case, original: Restarted, wanted: Mapping[str, Value], found: list[Compared]
    ) -> list[Compared]:
        """Drop differences that one step of inputs or parts makes too, if the changed parts agree.

        After one difference that is not explained, nothing else is excused.
        """
        if self.judged or not self._parts_agree(case):
            self.judged = True
            return found
        source = np.random.default_rng([self.plan.seed, zlib.crc32(case.name.encode())])
        wrong = [one for one in self._stable(found) if not one.holds]
        moved = [original.run(one.inputs) for one in nudges(case, source)]
        passed = excused(wrong, movement(case, wanted, moved, self.plan))
        if len(passed) < len(wrong) and self.parts is not None:
            with contextlib.suppress(Refused):
                moved += self.parts.moves(case, source)
            passed = excused(wrong, movement(case, wanted, moved, self.plan))
        self.judged = len(passed) < len(wrong)
        self.reported += passed
        return [one for one in found if one not in passed]

    def _parts_agree(self, case: Case) -> bool:
        """Return true if no changed part is known to differ; with given bounds, all must run."""
        if self.parts is None:
            return True
        try:
            return all(one.holds for one in self.parts.compare(case))
        except Refused:
            return not self.plan.tolerance.is_given

    def _reported_notes(self) -> list[str]:
        """Return the reported differences, in words."""
        return [
            f"reported, not judged: output {one.name} differs by {one.difference.absolute:.2g}, "
            f"{one.difference.used:.2g} times the tolerance ({one.case}, {one.runtime}): changes "
            "in the last place of inputs or of changed parts move the original by about as much"
            for one in joined(self.reported)
        ]

    def _stable(self, found: Iterable[Compared]) -> list[Compared]:
        return [one for one in found if one.name not in self.unstable]

    def _is_drawn(self, one: Compared) -> bool:
        """Return true if a random operator feeds the output; items of a sequence have a number."""
        return bool({one.name, one.name.rpartition("[")[0]} & self.random)
