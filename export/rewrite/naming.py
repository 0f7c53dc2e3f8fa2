"""Names that no node and no value of a model has yet."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from export.rewrite.scopes import scopes


class Names:
    """The names that are taken, in any graph of the model, and new ones."""

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str | None] = set()
        for scope in scopes(model):
            self._taken |= {value.name for value in scope.graph.inputs}
            if isinstance(scope.graph, ir.Graph):
                self._taken |= set(scope.graph.initializers)
            for node in scope.graph:
                self._taken |= {node.name, *(output.name for output in node.outputs)}

    def free(self, wanted: str) -> str:
        """``wanted``, or, if that is taken, ``wanted_1``, ``wanted_2``, …; taken from now on."""
        more = (f"{wanted}_{count}" for count in itertools.count(1))
        name = next(n for n in itertools.chain([wanted], more) if n not in self._taken)
        self._taken.add(name)
        return name
