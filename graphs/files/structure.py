"""Checks of a model's structure: each name has one meaning, and there are no cycles.

ONNX's own checker is not used. It refuses operators that it does not know in the version that the
model imports, although runtimes run them, and it opens data files by itself. The checks here take
time in proportion to the model's size.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import onnx

from gatewave.graphs.analysis import protos
from gatewave.graphs.analysis.protos import Body, FunctionIdentifier
from gatewave.graphs.errors import ModelError

MAX_NODES = 1_000_000
"""Limit on nodes after inlining: thirty functions that call the next one twice make 2³⁰."""


@dataclass
class _Content:
    """Content of the main graph or a function, with the graphs inside its nodes."""

    nodes: int = 0
    calls: list[FunctionIdentifier] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)


def check(model: onnx.ModelProto) -> bool:
    """Check ``model``; return true if all nodes come after the nodes that they depend on.

    Raises:
        ModelError: It is not sound; the message names the place.
    """
    _check_header(model)
    functions = {protos.function_identifier(f): f for f in model.functions}
    main, ordered = _content(model.graph, "the graph")
    _check_imports(main, model.opset_import, model.ir_version, "the model")
    contents: dict[FunctionIdentifier, _Content] = {}
    for identifier, function in functions.items():
        what = f"function {protos.name(identifier)}"
        contents[identifier], in_order = _content(function, what)
        _check_imports(contents[identifier], function.opset_import, model.ir_version, what)
        ordered = ordered and in_order
    _check_calls(main, contents)
    return ordered


def _check_header(model: onnx.ModelProto) -> None:
    if not model.HasField("graph"):
        raise ModelError("holds no graph: is it an ONNX model?")
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise ModelError(
            f"has IR version {model.ir_version}; versions 1 to {onnx.IR_VERSION} are supported"
        )
    _check_unique(
        (protos.name(protos.function_identifier(f)) for f in model.functions), "function", ""
    )


def _check_imports(
    content: _Content, imports: Sequence[onnx.OperatorSetIdProto], ir_version: int, what: str
) -> None:
    versions: dict[str, int] = {}
    for entry in imports:
        name = protos.domain(entry.domain)
        if entry.version < 1 or versions.setdefault(name, entry.version) != entry.version:
            raise ModelError(
                f"{what} imports opset {entry.version} of {name or 'ai.onnx'!r}: "
                "expected one version, of 1 or more"
            )
    # Before IR version 3 there were no imports, and the opset was 1.
    if "" in content.domains - versions.keys() and ir_version >= 3:  # noqa: PLR2004
        raise ModelError(f"{what} uses operators of ai.onnx, but imports no opset of it")


def _check_calls(main: _Content, contents: Mapping[FunctionIdentifier, _Content]) -> None:
    called = {
        identifier: [call for call in content.calls if call in contents]
        for identifier, content in contents.items()
    }
    try:
        order = list(graphlib.TopologicalSorter(called).static_order())
    except graphlib.CycleError as error:
        circle = " → ".join(protos.name(call) for call in error.args[1][:-MAX_SAID:-1])
        raise ModelError(f"functions call each other in a circle: {circle}") from error
    # The size after inlining is computed without inlining, callees first: one addition per call.
    sizes: dict[FunctionIdentifier, int] = {}
    for identifier in order:
        sizes[identifier] = contents[identifier].nodes + sum(sizes[c] for c in called[identifier])
    inlined = sum(sizes.get(call, 0) for call in main.calls)
    if inlined > MAX_NODES:
        raise ModelError(
            f"has more than {MAX_NODES:,} nodes once its functions are inlined, "
            "which is more than is supported"
        )


def _content(body: Body, what: str) -> tuple[_Content, bool]:
    content = _Content()
    walk = _ScopeWalk(content)
    walk.body(body, what, ())
    return content, walk.ordered


@dataclass
class _ScopeWalk:
    """Goes through a graph and the graphs inside its nodes.

    Attributes:
        content: Content found so far.
        ordered: True if all nodes so far came after the nodes that they depend on.
    """

    content: _Content
    ordered: bool = True

    def body(self, body: Body, what: str, outer: tuple[Mapping[str, int], ...]) -> set[str]:
        """Check ``body``, and return the names that it takes from the graphs around it.

        Args:
            body: Graph or function.
            what: Its name in messages.
            outer: Names of the graphs around it, the outermost first.
        """
        made = _names(body, what)
        needs: dict[int, set[int]] = {}
        taken: set[str] = set()
        for index, node in enumerate(body.node):
            names = self._inputs(node, _said(node, index, what), (*outer, made))
            needs[index] = {made[name] for name in names if made.get(name, -1) >= 0}
            taken |= {name for name in names if name not in made}
        if isinstance(body, onnx.FunctionProto):
            for attribute in body.attribute_proto:
                _check_attribute(attribute, what)
                if next(protos.graphs(attribute), None) is not None:
                    raise ModelError(
                        f"{what}: attribute {attribute.name!r} is a graph by default, "
                        "which is not supported"
                    )
        self._check_order(body, needs, what)
        _check_outputs(body, made, what)
        return taken

    def _inputs(
        self, node: onnx.NodeProto, what: str, known: tuple[Mapping[str, int], ...]
    ) -> set[str]:
        """Return the names that ``node`` and the graphs inside it take from around it."""
        if not node.op_type:
            raise ModelError(f"{what}: has no op_type")
        self.content.nodes += 1
        self.content.calls.append(protos.identifier(node))
        self.content.domains.add(protos.domain(node.domain))
        _check_unique((attribute.name for attribute in node.attribute), "attribute", f" of {what}")
        names = dict.fromkeys(filter(None, node.input))
        # A body sees the names of all graphs around it (ONNX IR specification, "Graphs").
        for name in names:
            if not any(name in scope for scope in known):
                raise ModelError(f"{what}: takes {name!r}, which has no producer")
        for attribute in node.attribute:
            _check_attribute(attribute, what)
            for graph in protos.graphs(attribute):
                names |= dict.fromkeys(self.body(graph, f"{attribute.name} of {what}", known))
        return set(names)

    def _check_order(self, body: Body, needs: Mapping[int, set[int]], what: str) -> None:
        if all(max(needed, default=-1) < index for index, needed in needs.items()):
            return
        self.ordered = False
        try:
            graphlib.TopologicalSorter(needs).prepare()
        except graphlib.CycleError as error:
            circle = " → ".join(protos.node_name(body.node[i], i) for i in error.args[1][:MAX_SAID])
            raise ModelError(f"{what}: nodes take each other's results: {circle}") from error


MAX_SAID = 8
"""Nodes of a cycle that a message lists."""


FIELDS: Mapping[int, str] = MappingProxyType(
    {
        onnx.AttributeProto.TENSOR: "t",
        onnx.AttributeProto.GRAPH: "g",
        onnx.AttributeProto.SPARSE_TENSOR: "sparse_tensor",
        onnx.AttributeProto.TYPE_PROTO: "tp",
    }
)
"""Field that an attribute of this type must have; other types always have a value."""


def _check_attribute(attribute: onnx.AttributeProto, what: str) -> None:
    expected = FIELDS.get(attribute.type)
    if expected and not attribute.ref_attr_name and not attribute.HasField(expected):
        kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
        raise ModelError(f"{what}: attribute {attribute.name!r} should be a {kind}, and holds none")


def _names(body: Body, what: str) -> dict[str, int]:
    """Return the names defined in ``body`` with the index of their node; -1 without a node."""
    inputs = (
        list(body.input)
        if isinstance(body, onnx.FunctionProto)
        else [value.name for value in body.input]
    )
    _check_unique(inputs, "input", f" of {what}")
    # An initializer may have the name of an input, whose default it then is.
    made = dict.fromkeys(inputs, -1)
    if isinstance(body, onnx.GraphProto):
        initializers = list(_initializers(body))
        _check_unique(initializers, "initializer", f" of {what}")
        made |= dict.fromkeys(initializers, -1)
    for index, node in enumerate(body.node):
        for name in filter(None, node.output):
            if name in made:
                raise ModelError(
                    f"{_said(node, index, what)}: makes {name!r}, which is there already"
                )
            made[name] = index
    return made


def _initializers(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def _check_outputs(body: Body, made: Mapping[str, int], what: str) -> None:
    outputs = [value if isinstance(value, str) else value.name for value in body.output]
    _check_unique(outputs, "output", f" of {what}")
    for name in outputs:
        if name not in made:
            raise ModelError(f"{what}: its output {name!r} has no producer inside it")


def _check_unique(names: Iterator[str] | Sequence[str], role: str, of: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise ModelError(f"one {role}{of} has no name")
        if name in seen:
            raise ModelError(f"{role} {name!r}{of} is there twice")
        seen.add(name)


def _said(node: onnx.NodeProto, index: int, of: str) -> str:
    return f"{protos.node_name(node, index)} of {of}"
