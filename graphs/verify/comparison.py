"""Comparison of the results of two models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from gatewave.graphs.processes.messages import Array, Value
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.report import Compared
from gatewave.graphs.verify.samples import Case
from gatewave.graphs.verify.tensor_difference import between, dtype_of
from gatewave.graphs.verify.verification_plan import VerificationPlan


def compared(
    case: Case,
    wanted: Mapping[str, Value],
    got: Mapping[str, Value],
    runtime: str,
    plan: VerificationPlan,
    *,
    replaced: Collection[str] = (),
) -> Iterator[Compared]:
    """Compare each value of a case; a missing value differs from any other.

    Args:
        case: The inputs.
        wanted: Results of the original.
        got: Results of the rewritten model.
        runtime: Runtime of the rewritten model, in words.
        plan: Settings.
        replaced: Names of values that a rewritten activation gives: these may differ by its
            `cancellation`, too.
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

    Cancellation against 1 leaves a unit in the last place of 1: ONNX Runtime's Sigmoid is 0 below
    -18, where e^-18 is 1.5e-8. None if the caller gave bounds.
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
    """Return the names of values that differ between two runs of one model.

    The default tolerance leaves room for another order of summation in each run.
    """
    return [
        name
        for name, one in ones.items()
        if between(one, others.get(name), Allowance(), lenient=False).used > 1
    ]
