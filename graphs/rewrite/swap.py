"""Exchange of one activation for another, in a trained graph.

The weights were trained with the other: whether the model still does its work must be measured
again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.analysis.shapes import Shapes
from gatewave.graphs.analysis.thresholds import MAX_FLOAT32
from gatewave.graphs.recognition.kinds import Kind, called
from gatewave.graphs.recognition.layouts import GATE_IS_SECOND
from gatewave.graphs.recognition.sites import Refusal, Site, survey
from gatewave.graphs.rewrite import availability
from gatewave.graphs.rewrite.fuse import unequal, unlike
from gatewave.graphs.rewrite.outcome import Outcome, Skipped
from gatewave.graphs.rewrite.replacement import Replacement

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
    standard: bool = True,
) -> Outcome:
    """Replace activations of ``model``, in place, by another activation.

    The new one is ONNX's operator if the model's opset has it; otherwise ours, with its body, if
    there is one; otherwise the formula in basic operators.

    Args:
        model: The model; it is changed.
        source: The kind to replace; ``silu``, say, is Swish with an alpha of 1 only.
        to: The kind to put there, of as many inputs.
        names: A regular expression: only nodes whose names it matches somewhere; one without a
            name goes by its output's.
        reals: Real parameters of the new one, such as alpha.
        standard: True if ONNX's operator comes first; otherwise it comes last, as for a runtime
            that has not implemented it.

    Raises:
        ValueError: A kind or a parameter is unknown, a parameter is not finite, the two kinds take
            different numbers of inputs, the new one has a parameter for each channel, or ``names``
            is no regular expression.
    """
    old, asked = called(source)
    new, usual = called(to)
    if len(old.inputs) != len(new.inputs):
        counts = f"{source} takes {len(old.inputs)} tensors, {to} takes {len(new.inputs)}"
        raise ValueError(f"{counts}: they cannot take each other's place")
    if new.per_channel:
        raise ValueError(f"{to} has a parameter for each channel: it can be replaced, but not put")
    if unknown := {*reals} - {*new.reals}:
        raise ValueError(f"{to} has no {', '.join(sorted(unknown))}: {_parameters(new)}")
    for name, real in reals.items():
        # Attributes are float32, in which a larger number is infinite. NaN fails, too.
        if not abs(real) <= MAX_FLOAT32:
            raise ValueError(f"{name} must be a number that float32 can hold, not {real!r}")
    successor = _Successor(new, {**new.reals, **usual, **reals}, standard)
    found = survey(model, _refusal(old, asked, successor, _compiled(names)))
    replacement = Replacement(model)
    for site in found.sites:
        successor.put(replacement, site)
    return Outcome(replacement.finish(), [Skipped.of(miss) for miss in found.near_misses])


@dataclass(frozen=True)
class _Successor:
    """Activation that replaces others.

    Attributes:
        kind: The activation.
        reals: Its real parameters.
        standard: True if ONNX's own operator is preferred.
    """

    kind: Kind
    reals: Mapping[str, float]
    standard: bool

    def unable(self, site: Site) -> str | None:
        """Return why no form of it can be put there; None if one can."""
        return None if self._is_standard(site) else self._unwritable(site)

    def put(self, replacement: Replacement, site: Site) -> None:
        ordered = self._ordered(site)
        if self._is_standard(site):
            replacement.by_standard(ordered, self.kind, self.reals)
        elif self.kind.operator is not None:
            replacement.by_ours(ordered, self.kind, self.reals, {})
        else:
            replacement.by_formula(ordered, self.kind, self.reals)

    def _is_standard(self, site: Site) -> bool:
        """Return true if ONNX's operator is used: it is preferred, or the only choice."""
        opset = site.scope.opset
        # Our operator takes its parameter as an input, in the tensor's own type.
        wanted = self.standard and not availability.rounded(self.reals, site.dtype)
        return availability.has_standard(self.kind, site.dtype, opset) and (
            wanted or self._unwritable(site) is not None
        )

    def _unwritable(self, site: Site) -> str | None:
        """Return why neither our operator nor the formula can be put there; None if one can."""
        if site.dtype is None or site.dtype not in NAMES:
            return "its element type is not known"
        opset = site.scope.opset
        lack = availability.missing_for_formula(self.kind, NAMES[site.dtype], opset)
        return f"{lack}; the graph's is {opset}" if lack else None

    def _ordered(self, site: Site) -> Site:
        """Return the site with its inputs in the new kind's order: the gate stays the gate."""
        if (site.kind in GATE_IS_SECOND) == (self.kind.name in GATE_IS_SECOND):
            return site
        return replace(site, inputs=site.inputs[::-1])


def _parameters(kind: Kind) -> str:
    return f"its parameters are {', '.join(kind.reals)}" if kind.reals else "it has no parameters"


def _compiled(names: str | None) -> re.Pattern[str]:
    try:
        return re.compile(names or "")
    except re.error as error:
        raise ValueError(f"{names!r} is no regular expression: {error}") from error


def _refusal(
    old: Kind, asked: Mapping[str, float], new: _Successor, names: re.Pattern[str]
) -> Refusal:
    def refusal(site: Site, shapes: Shapes) -> str | None:
        if site.kind != old.name or not names.search(site.name):
            return ""
        return unlike(site, asked) or site.doubt or unequal(site, shapes) or new.unable(site)

    return refusal
