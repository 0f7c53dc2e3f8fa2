"""Free names for new nodes and values."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import bodies, values
from gatewave.graphs.analysis.scopes import scopes


class Names:
    """Names that are taken in any graph of a model.

    ONNX allows a name once in a graph and the bodies inside it. A name that is free in the whole
    model is therefore free wherever a node is put, and stays free when functions are inlined.
    """

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str | None] = set()
        for scope in scopes(model):
            self._taken |= {v.name for v in scope.graph.inputs}
            if isinstance(scope.graph, ir.Graph):
                self._taken |= set(scope.graph.initializers)
            for node in scope.graph:
                self._taken |= {node.name, *(output.name for output in node.outputs)}

    def free(self, wanted: str) -> str:
        """Return the first name that is free, as `free_name` does, and take it."""
        name = free_name(wanted, self._taken)
        self._taken.add(name)
        return name


def free_name(wanted: str, taken: Collection[str | None]) -> str:
    """Return ``wanted``, ``wanted_1``, ``wanted_2``, …: the first that is not ``taken``."""
    candidates = itertools.chain([wanted], (f"{wanted}_{n}" for n in itertools.count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)


def inside(node: ir.Node) -> str:
    """Return the prefix for the parts of ``node``: ``act`` becomes ``act/Mul`` and ``act/Sigmoid``.

    Tools that show modules as a tree then show the parts under the operator that they replace.
    """
    return f"{node.name or node.outputs[0].name or node.op_type}/"


def beside(node: ir.Node) -> str:
    """Return the prefix for one node in place of many: the module's path, if the name has it.

    Torch names the last node of a module ``/layer.3/act/Mul``; the fused node is then
    ``/layer.3/act/Swish``.
    """
    path, slash, _ = (node.name or "").rpartition("/")
    return f"{path}/" if slash else f"{node.name or node.outputs[0].name}_"


def rename_shadows(model: ir.Model, originals: set[ir.Value]) -> None:
    """Rename values that take a name twice in scope, except for those in ``originals``.

    onnx_ir 1.1's `InlinePass` makes names unique in one graph, but not across bodies. Its
    `NameFixPass` does, but it also renames nodes, and names values that have no name.
    """
    left = originals.intersection(values(model.graph))
    _rename_shadows(model.graph, {value.name for value in left}, left)


def _rename_shadows(graph: ir.Graph, taken: set[str | None], originals: set[ir.Value]) -> None:
    for node in graph:
        for output in node.outputs:
            if output not in originals and not output.is_graph_output():
                if output.name is not None:
                    output.name = free_name(output.name, taken)
                taken.add(output.name)
        for body in bodies(node):
            _rename_shadows(body, taken, originals)
