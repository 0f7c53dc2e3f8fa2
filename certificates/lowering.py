"""Lowering of a model to the operators that a runtime is known to run."""

from __future__ import annotations

import functools

import onnx_ir as ir

from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.graphs import targets
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.targets.probed_target import this


@functools.cache
def target_of(runtime: Runtime) -> targets.Target | None:
    """Return the target of ``runtime``; None if it runs all that the standard allows."""
    if runtime.target == "this":
        return this()
    return targets.find(runtime.target) if runtime.target else None


def lowered(model: ir.Model, target: targets.Target | None) -> tuple[str, ...]:
    """Lower ``model``, in place, for ``target``; return the changes in words.

    Raises:
        TargetError: The target is known not to run it, whatever its form.
    """
    changes = [] if target is None else lower(model, target).changes
    return tuple(f"{change.node}: {change.what}".removeprefix(": ") for change in changes)
