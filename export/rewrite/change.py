"""What a rewrite has changed, a line for each place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was rewritten.

    Attributes:
        scope: The graph that it is in, as `Scope.name` has it.
        node: The node's name.
        what: What was done, in one line for people.
        kind: The activation's kind, or what else it is about: ``opset``, ``ir``, ``function``.
        output: The name of the value whose computation changed; empty where none did.
    """

    scope: str
    node: str
    what: str
    kind: str
    output: str = ""
