"""Comparison of values inside two graphs, by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import onnx_ir as ir

from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.processes.messages import Value
from gatewave.graphs.verify.comparison import compared, joined
from gatewave.graphs.verify.report import Compared, Dropped
from gatewave.graphs.verify.runners import WORDS, Runner, RunnerKind, Task
from gatewave.graphs.verify.samples import Case
from gatewave.graphs.verify.thresholds import MAX_INNER_CASES
from gatewave.graphs.verify.verification_plan import VerificationPlan


def compare(
    models: Sequence[ir.Model],
    tasks: Sequence[Task],
    runtimes: Sequence[RunnerKind],
    cases: Sequence[Case],
    plan: VerificationPlan,
) -> tuple[list[Compared], list[Dropped]]:
    """Compare the values that ``plan`` names, on the first cases.

    The values become outputs of both models. A runtime fuses nothing across an output, so that
    these are not the models as they are: their own outputs are compared separately.

    Returns:
        The comparisons, and the values that could not be compared, each with the reason.
    """
    inside = [_values_of(model) for model in models]
    plan = replace(plan, tolerance=replace(plan.tolerance, sliced=False))
    wanted = list(dict.fromkeys(plan.sites))
    names = [name for name in wanted if all(name in values for values in inside)]
    unseen = [
        Dropped(name, "no value between nodes of both main graphs has this name")
        for name in wanted
        if name not in names
    ]
    if not names:
        return [], unseen
    try:
        found = _compared([replace(task, extra=names) for task in tasks], runtimes, cases, plan)
        return joined(found), unseen
    except Refused as error:
        return [], [*unseen, *(Dropped(name, str(error)) for name in names)]


def _compared(
    tasks: Sequence[Task],
    runtimes: Sequence[RunnerKind],
    cases: Sequence[Case],
    plan: VerificationPlan,
) -> Iterator[Compared]:
    with contextlib.ExitStack() as stack:
        ones, others = (
            stack.enter_context(Runner(task, runtime))
            for task, runtime in zip(tasks, runtimes, strict=True)
        )
        for case in cases[:MAX_INNER_CASES]:
            want, got = (_inside(runner, case) for runner in (ones, others))
            yield from compared(case, want, got, WORDS[runtimes[1]], plan)


def _inside(runner: Runner, case: Case) -> dict[str, Value]:
    """Return the values that are asked for; items of a sequence are named ``s[0]``, ``s[1]``."""
    asked = {*runner.task.extra}
    results = runner.run(case.inputs)
    return {name: v for name, v in results.items() if {name, name.rpartition("[")[0]} & asked}


def _values_of(model: ir.Model) -> set[str]:
    """Names of values in the main graph that are not outputs."""
    made = {value.name or "" for node in model.graph for value in node.outputs}
    return made - {value.name for value in model.graph.outputs}
