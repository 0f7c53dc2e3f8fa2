"""Settings of a comparison of two models, and the comparison of their results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gatewave.graphs.processes.channel import Array, Value
from gatewave.graphs.verify.differences import Allowance, between, dtype_of
from gatewave.graphs.verify.report import Compared
from gatewave.graphs.verify.samples import Case

NOISE = 16.0
"""Ratio between two runs below which a difference counts as noise."""


@dataclass(frozen=True)
class VerificationPlan:
    """Settings of a verification.

    Attributes:
        sites: Names of values within both graphs that are to be compared too.
        seed: Seed of the generated inputs.
        tolerance: The allowed difference from the original's floats.
        inputs: The caller's own inputs, compared before the generated ones.
        kernels: A library of kernels: models with our operators are run with it too.
        timeout: Seconds that one run of a model may take before it is ended.
        budget: Seconds that the cases may take together. A case is not started if it is predicted
            to exceed them. At least one case is compared.
        native: True if ONNX Runtime itself must run the rewritten model: the reference evaluator is
            no evidence for a model that was rewritten for ONNX Runtime.
        local: True if the parts that differ between the graphs are compared by themselves, given
            equal inputs: see `local`.
        strict: True if NaN or infinity of the original must stay what it is even where the
            original overflows, or is given infinities.
    """

    sites: Sequence[str] = ()
    seed: int = 0
    tolerance: Allowance = Allowance()  # noqa: RUF009 - frozen
    inputs: Mapping[str, Array] | None = None
    kernels: Path | None = None
    timeout: float = 120.0
    budget: float = 60.0
    native: bool = False
    local: bool = False
    strict: bool = False


def compared(
    case: Case,
    wanted: Mapping[str, Value],
    got: Mapping[str, Value],
    runtime: str,
    plan: VerificationPlan,
    *,
    replaced: Collection[str] = (),
) -> Iterator[Compared]:
    """Each of the values that ``case`` gives, compared; a missing one differs from any.

    Those of the names in ``replaced`` may differ by the `cancellation` of an activation, too.
    """
    lenient = case.extreme and not plan.strict
    for name in dict.fromkeys([*wanted, *got]):
        want = wanted.get(name)
        slack = cancellation(want, plan) if name in replaced else None
        found = between(want, got.get(name), plan.tolerance, lenient=lenient, slack=slack)
        dtype = "nothing" if want is None else dtype_of(want)
        yield Compared(name, dtype, runtime, case.name, found)


def cancellation(want: Value, plan: VerificationPlan) -> Array | None:
    """Return the absolute error that an activation may have where all its results are small.

    Cancellation against 1 leaves a unit of 1 in the last place: ONNX Runtime's own Sigmoid is 0
    below -18. None where the caller gave bounds.
    """
    if plan.tolerance.is_given or not isinstance(want, np.ndarray):
        return None
    known = want.dtype in (np.float32, np.float64)
    return np.asarray(float(np.finfo(want.dtype).eps)) if known else None


def joined(found: Iterable[Compared]) -> list[Compared]:
    """Return the largest differences of each value and runtime over all cases."""
    worst: dict[tuple[str, str], Compared] = {}
    for one in found:
        key = one.name, one.runtime
        worst[key] = worst[key].joined(one) if key in worst else one
    return list(worst.values())


def unlike(ones: Mapping[str, Value], others: Mapping[str, Value]) -> list[str]:
    """Return the values that differ by more than another order of summation explains."""
    return [
        name
        for name, one in ones.items()
        if between(one, others.get(name), Allowance(), lenient=False).used > 1
    ]


def is_noise(found: Compared, moved: Compared) -> bool:
    """Return true if the original differs as much from itself on perturbed inputs."""
    return (
        not found.holds
        and not moved.holds
        and found.difference.used <= NOISE * moved.difference.used
    )
