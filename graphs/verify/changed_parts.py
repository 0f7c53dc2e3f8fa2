"""Comparison of the changed parts of two models, on equal inputs.

Both parts run on the values that the original has at their inputs. A difference is therefore one of
the rewrite, and no rounding that the network has amplified: the tolerance is tight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.processes.errors import Lost, Refused
from gatewave.graphs.processes.messages import Value
from gatewave.graphs.verify.comparison import cancellation
from gatewave.graphs.verify.conditioning import excused, movement, nudges
from gatewave.graphs.verify.graph_difference import GraphDifference, graph_difference
from gatewave.graphs.verify.instrumentation import FACTOR, OUT, Cut
from gatewave.graphs.verify.report import Compared
from gatewave.graphs.verify.runners import WORDS, Restarted, Runner, Task, choose
from gatewave.graphs.verify.samples import Case
from gatewave.graphs.verify.tensor_difference import between, dtype_of, is_float
from gatewave.graphs.verify.thresholds import MAX_STEPS, NUDGES
from gatewave.graphs.verify.value_ranges import Source
from gatewave.graphs.verify.verification_plan import VerificationPlan

NamedValues = dict[str, Value]


@dataclass
class ChangedParts:
    """Changed parts of two models, ready to run.

    Attributes:
        changed: The nodes that they do not share.
        tasks: Each of the models as a whole.
        original: The process that runs the original.
        rewritten: The processes that run the rewritten model: several, if it has kernels.
        plan: Settings of the comparison.
        found: Comparisons up to now.
    """

    changed: GraphDifference
    tasks: tuple[Task, Task]
    original: Restarted
    rewritten: Sequence[Restarted]
    plan: VerificationPlan
    found: list[Compared] = field(default_factory=list)

    def __post_init__(self) -> None:
        tolerance = replace(self.plan.tolerance, sliced=False, tight=True)
        self._plan = replace(self.plan, tolerance=tolerance)
        self._hosts: list[Runner] = []
        self._whole: Runner | None = None
        self._parts: list[Runner] = []

    def compare(self, case: Case) -> list[Compared]:
        """Compare each value that a changed part gives, between the parts of both models.

        Raises:
            Refused: A part cannot be run by itself.
        """
        try:
            return self._found(case)
        except Lost:
            # The parts share the processes of the whole models.
            for model in (self.original, *self.rewritten):
                model.restart()
            raise

    def _found(self, case: Case) -> list[Compared]:
        self._check_hosts()
        values = self._values(case)
        ports = [[n for n in names if n in values] for names in self.changed.inputs]
        if not self._parts:
            self._load(values)
        feeds = [{name: values[name] for name in names} for names in ports]
        want = _outputs(self._parts[0].run(feeds[0]))
        found: list[Compared] = []
        # The first part is the original's; the rewritten one may run twice, with kernels as well.
        for runner in self._parts[1:]:
            got = _outputs(runner.run(feeds[1]))
            found += self._compared(case, want, got, WORDS[runner.runtime])
        found = self._without_noise(case, feeds[0], want, found)
        self.found += found
        return found

    def moves(self, case: Case, source: Source) -> Iterator[NamedValues]:
        """Yield the original's outputs after results of the changed parts were moved by some steps.

        The number of steps is the difference of the parts, at least one, at most `MAX_STEPS`.
        """
        values = {n: v for n, v in self._values(case).items() if n in self.changed.outputs}
        floats = {name: value for name, value in values.items() if is_float(value)}
        kinds = {name: _element(value) for name, value in floats.items()}
        if not kinds:
            return
        task = replace(self.tasks[0], moved=kinds)
        runner = Runner(task, self.original.runtime, self.original.runner)
        for _ in range(NUDGES):
            factors = {
                name + FACTOR: _factor(value, self._steps(name), source)
                for name, value in floats.items()
            }
            yield runner.run({**case.inputs, **factors})

    def _check_hosts(self) -> None:
        """Forget models that were loaded in a process that has since been replaced."""
        hosts = [model.runner for model in (self.original, *self.rewritten)]
        if any(one is not other for one, other in zip(hosts, self._hosts, strict=False)):
            self._whole, self._parts = None, []
        self._hosts = hosts

    def _values(self, case: Case) -> NamedValues:
        """Return the original's values at the boundary between changed and shared nodes."""
        asked = {*self.changed.inputs[0], *self.changed.inputs[1], *self.changed.outputs}
        if self._whole is None:
            task = replace(self.tasks[0], extra=sorted(asked - {*case.inputs}))
            self._whole = Runner(task, self.original.runtime, self.original.runner)
        values = {**case.inputs, **self._whole.run(case.inputs)}
        plain = {n for n, v in values.items() if isinstance(v, np.ndarray | np.generic)}
        if needed := {*self.changed.inputs[0], *self.changed.inputs[1]} - plain:
            raise Refused(f"{', '.join(sorted(needed))}: not a tensor, or an omitted input")
        return {name: value for name, value in values.items() if name in asked}

    def _load(self, values: NamedValues) -> None:
        for which, models in enumerate(([self.original], self.rewritten)):
            kinds = {n: _element(values[n]) for n in self.changed.inputs[which]}
            cut = Cut(self.changed.nodes[which], kinds, self.changed.outputs)
            for model in models:
                task = replace(self.tasks[which], cut=cut)
                runtimes = [model.runtime, *(r for r in task.runtimes() if r != model.runtime)]
                if which:
                    runtimes = runtimes[:1] if self.plan.native else runtimes
                try:
                    self._parts.append(choose(task, runtimes, host=model.runner).runner)
                except NotRunnableError as error:
                    raise Refused(str(error)) from error

    def _compared(
        self, case: Case, want: NamedValues, got: NamedValues, runtime: str
    ) -> Iterator[Compared]:
        for name in dict.fromkeys([*want, *got]):
            expected = want.get(name)
            slack = None if expected is None else cancellation(expected, self.plan)
            lenient = not self.plan.strict
            tolerance = self._plan.tolerance
            found = between(expected, got.get(name), tolerance, lenient=lenient, slack=slack)
            dtype = "nothing" if expected is None else dtype_of(expected)
            yield Compared(name, dtype, runtime, case.name, found)

    def _without_noise(
        self, case: Case, feeds: NamedValues, want: NamedValues, found: list[Compared]
    ) -> list[Compared]:
        """Return ``found`` without differences that one step of the part's own inputs makes too."""
        exact = self.plan.strict or self.plan.tolerance.is_given
        if exact or all(one.holds for one in found):
            return found
        part = replace(case, inputs=feeds)
        source = np.random.default_rng(self.plan.seed)
        moved = [_outputs(self._parts[0].run(c.inputs)) for c in nudges(part, source)]
        passed = excused(found, movement(part, want, moved, self._plan))
        return [one for one in found if one not in passed]

    def _steps(self, name: str) -> int:
        most = max((one.difference.ulp for one in self.found if one.name == name), default=1.0)
        return max(1, min(MAX_STEPS, math.ceil(most)))


def parts(
    models: Sequence[ir.Model],
    tasks: tuple[Task, Task],
    original: Restarted,
    rewritten: Sequence[Restarted],
    plan: VerificationPlan,
) -> ChangedParts | None:
    """Return the changed parts of ``models``; ``None`` if all nodes are shared."""
    found = graph_difference(*models)
    if not found.outputs:
        return None
    return ChangedParts(found, tasks, original, rewritten, plan)


def _outputs(results: NamedValues) -> NamedValues:
    return {name.replace(OUT, ""): value for name, value in results.items()}


def _element(value: Value) -> int:
    if value.dtype == object:
        return onnx.TensorProto.STRING
    return int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))


def _factor(value: Value, steps: int, source: Source) -> Value:
    """Return a factor that moves floats of ``value``'s type by so many steps, up or down."""
    eps = float(ml_dtypes.finfo(value.dtype).eps)  # type: ignore[no-untyped-call]
    sign = 1 if source.random() < 0.5 else -1  # noqa: PLR2004
    return np.asarray(1 + sign * steps * eps, value.dtype)
