"""One activation exchanged for another, in a trained graph.

The weights were trained with the other: whether the model still does its work must be measured
again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import onnx_ir as ir

from export.recognition.kinds import ALIASES, KINDS, Kind
from export.recognition.layouts import GATE_IS_SECOND
from export.recognition.shapes import Shapes
from export.recognition.sites import Refusal, Site, survey
from export.rewrite import bodies
from export.rewrite.bodies import DTYPES
from export.rewrite.fuse import unequal
from export.rewrite.replacement import Outcome, Replacement, skipped

WARNING = (
    "The weights were trained with the other activation: measure the model's accuracy again, "
    "and train it further where that has fallen."
)

NO_REALS: Mapping[str, float] = MappingProxyType({})


def swap(
    model: ir.Model,
    *,
    source: str,
    to: str,
    names: str | None = None,
    reals: Mapping[str, float] = NO_REALS,
) -> Outcome:
    """Replace activations of ``model``, in place, by another activation.

    The new one is ONNX's operator where the model's opset has it; else ours, with its body; else
    the formula in basic operators.

    Args:
        model: Is changed.
        source: The kind to replace; ``silu``, say, is Swish with an alpha of 1 only.
        to: The kind to put there, of as many inputs.
        names: A regular expression: only nodes whose names it matches somewhere.
        reals: Real parameters of the new one, such as alpha.

    Raises:
        ValueError: A kind or a parameter is unknown, the two kinds take different numbers of
            inputs, or ``names`` is no regular expression.
    """
    old, asked = _named(source)
    new, usual = _named(to)
    if len(old.inputs) != len(new.inputs):
        counts = f"{source} takes {len(old.inputs)} tensors, {to} takes {len(new.inputs)}"
        raise ValueError(f"{counts}: they cannot take each other's place")
    if unknown := {*reals} - {*new.reals}:
        raise ValueError(f"{to} has no {', '.join(sorted(unknown))}: {_parameters(new)}")
    given = {**new.reals, **usual, **reals}
    found = survey(model, _refusal(old, asked, new, _compiled(names)))
    replacement = Replacement(model)
    for site in found.sites:
        _put(replacement, _ordered(site, new), new, given)
    return Outcome(
        replacement.finish(), [skipped(miss.site, miss.reason) for miss in found.near_misses]
    )


def _named(name: str) -> tuple[Kind, Mapping[str, float]]:
    """The kind of that name or alias, and the real parameters that an alias stands for."""
    plain, reals = ALIASES.get(name, (name, NO_REALS))
    if plain not in KINDS:
        known = ", ".join(sorted({*KINDS, *ALIASES}))
        raise ValueError(f"no activation is called {name!r}: known are {known}")
    return KINDS[plain], reals


def _parameters(kind: Kind) -> str:
    return f"its parameters are {', '.join(kind.reals)}" if kind.reals else "it has no parameters"


def _compiled(names: str | None) -> re.Pattern[str]:
    try:
        return re.compile(names or "")
    except re.error as error:
        raise ValueError(f"{names!r} is no regular expression: {error}") from error


def _refusal(old: Kind, asked: Mapping[str, float], new: Kind, names: re.Pattern[str]) -> Refusal:
    def refusal(site: Site, shapes: Shapes) -> str | None:
        if site.kind != old.name or not names.search(site.root.name or ""):
            return ""
        if asked and {**site.reals} != {**asked}:
            return f"its parameters are {dict(site.reals)}, not {dict(asked)}"
        return unequal(site, shapes) or _unable(site, new)

    return refusal


def _unable(site: Site, new: Kind) -> str | None:
    """Why ``new`` cannot be put there in any form."""
    opset = site.scope.opsets.get("", 1)
    if bodies.takes(new, site.dtype, opset):
        return None
    if site.dtype is None or site.dtype not in DTYPES:
        return "its element type is not known"
    lack = bodies.missing_for_formula(new, DTYPES[site.dtype], opset)
    return f"{lack}; the graph's is {opset}" if lack else None


def _ordered(site: Site, new: Kind) -> Site:
    """The site, its inputs in the order of ``new``: what was the gate stays the gate."""
    if (site.kind in GATE_IS_SECOND) == (new.name in GATE_IS_SECOND):
        return site
    return replace(site, inputs=site.inputs[::-1])


def _put(replacement: Replacement, site: Site, new: Kind, reals: Mapping[str, float]) -> None:
    if bodies.takes(new, site.dtype, site.scope.opsets.get("", 1)):
        replacement.by_standard(site, new, reals)
    elif new.operator is not None:
        replacement.by_ours(site, new, reals, {})
    else:
        replacement.by_formula(site, new, reals)
