"""Settings of a verification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.thresholds import BUDGET, TIMEOUT


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
            equal inputs: see `changed_parts`.
        strict: True if NaN or infinity of the original must stay what it is even where the
            original overflows, or is given infinities.
    """

    sites: Sequence[str] = ()
    seed: int = 0
    tolerance: Allowance = Allowance()  # noqa: RUF009 - frozen
    inputs: Mapping[str, Array] | None = None
    kernels: Path | None = None
    timeout: float = TIMEOUT
    budget: float = BUDGET
    native: bool = False
    local: bool = False
    strict: bool = False
