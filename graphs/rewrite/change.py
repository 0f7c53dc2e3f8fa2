"""Description of a change by a rewrite, one line for each place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was rewritten.

    Attributes:
        scope: The graph that it is in, as `Scope.name` has it.
        node: The node's name.
        what: Description in one line.
        kind: The activation's kind, or ``opset``, ``ir`` or ``function``.
        output: Name of the value whose computation changed; empty if no computation changed.
    """

    scope: str
    node: str
    what: str
    kind: str
    output: str = ""
