"""Names that no node and no value of a model has yet."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import bodies, values
from gatewave.graphs.analysis.scopes import scopes


class Names:
    """The names that are taken, in any graph of the model, and new ones."""

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str | None] = set()
        for scope in scopes(model):
            self._taken |= {v.name for v in scope.graph.inputs}
            if isinstance(scope.graph, ir.Graph):
                self._taken |= set(scope.graph.initializers)
            for node in scope.graph:
                self._taken |= {node.name, *(output.name for output in node.outputs)}

    def free(self, wanted: str) -> str:
        """``wanted``, or, if that is taken, ``wanted_1``, ``wanted_2``, …; taken from now on."""
        candidates = itertools.chain([wanted], (f"{wanted}_{n}" for n in itertools.count(1)))
        name = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(name)
        return name


def settle(model: ir.Model, originals: set[ir.Value]) -> None:
    """Rename values that shadow another name in scope, unless they are in ``originals``.

    ONNX wants a name to be given once in a graph and all bodies inside it.
    """
    left = originals.intersection(values(model.graph))
    _settle(model.graph, {value.name for value in left}, left)


def _settle(graph: ir.Graph, taken: set[str | None], originals: set[ir.Value]) -> None:
    for node in graph:
        for output in node.outputs:
            if output not in originals and not output.is_graph_output():
                names = (f"{output.name}_{n}" for n in itertools.count(1))
                if output.name in taken:
                    output.name = next(name for name in names if name not in taken)
                taken.add(output.name)
        for body in bodies(node):
            _settle(body, taken, originals)
