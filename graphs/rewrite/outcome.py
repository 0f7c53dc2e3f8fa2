"""Result of a rewrite: the changes, and the activations that were left."""

from __future__ import annotations

from dataclasses import dataclass, field

from gatewave.graphs.recognition.sites import NearMiss


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was rewritten.

    Attributes:
        scope: The graph that it is in, as `Scope.name` has it; empty for the model itself.
        node: The node's name; empty if no node is meant.
        what: Description in one line.
        kind: The activation's kind, the operator in lower case, or ``opset``, ``ir``, ``import``
            or ``function``.
        output: Name of the value whose computation changed; empty if no computation changed.
    """

    scope: str
    node: str
    what: str
    kind: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An activation that was left as it is.

    Attributes:
        scope: The graph that it is in, as `Scope.name` has it.
        node: Name of the node that makes its output, or the output's name.
        kind: Kind of the activation, or the one wanted.
        reason: Reason in one line.
        output: The name of its output.
    """

    scope: str
    node: str
    kind: str
    reason: str
    output: str

    @classmethod
    def of(cls, miss: NearMiss) -> Skipped:
        site = miss.site
        return cls(site.scope.name, site.name, site.kind, miss.reason, site.output.name or "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of `fuse`, `swap` or `lower`.

    Attributes:
        changes: The changes, in the order in which they were made.
        skipped: The activations that were asked for and left. `lower` skips none: it raises
            `TargetError` if something is left that the target is known not to run.
    """

    changes: list[Change]
    skipped: list[Skipped] = field(default_factory=list)
