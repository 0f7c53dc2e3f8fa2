"""Other nodes in the place of an activation: its output keeps its name, its type and its users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, GraphOps, compute_dtype
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_VERSION
from gatewave.graphs.recognition.kinds import Kind
from gatewave.graphs.recognition.sites import Site
from gatewave.graphs.rewrite import bodies
from gatewave.graphs.rewrite.bodies import DTYPES
from gatewave.graphs.rewrite.naming import Names
from gatewave.graphs.rewrite.outcome import Change
from gatewave.models import DType


class Replacement:
    """Replaces sites of one model, one after the other; `finish` removes unused parts."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.changes: list[Change] = []
        self._names = Names(model)
        self._scalars: dict[tuple[str, float], ir.Value] = {}
        self._replaced: dict[ir.Value, ir.Value] = {}
        self._old: list[ir.Node] = []

    def by_ours(
        self,
        site: Site,
        kind: Kind,
        reals: Mapping[str, float],
        parameters: Mapping[str, ir.Value],
    ) -> None:
        """Replace the site by our operator of that kind, whose body the model gets.

        Real parameters are those inputs of the model that ``parameters`` has, or else constants.
        `bodies.missing` returns the operators that the site's opset lacks.
        """
        assert kind.operator is not None and site.dtype is not None  # noqa: S101, PT018 - see fuse
        dtype = DTYPES[site.dtype]
        overload = self._body(kind.operator.op_type, dtype, site.scope)
        scalars = [
            parameters.get(name) or self._scalar(site, real, compute_dtype(dtype))
            for name, real in reals.items()
        ]
        imports = self._imports(site)
        imports[DOMAIN] = self.model.opset_imports[DOMAIN] = DOMAIN_VERSION
        sums, inputs = self._inputs(site)
        node = ir.Node(DOMAIN, kind.operator.op_type, [*inputs, *scalars], overload=overload)
        self._put(site, [*sums, node], kind.operator.op_type, reals)

    def by_standard(self, site: Site, kind: Kind, reals: Mapping[str, float]) -> None:
        """Replace the site by ONNX's own operator of that kind."""
        assert kind.standard is not None  # noqa: S101
        sums, inputs = self._inputs(site)
        node = ir.node(
            kind.standard.op_type, inputs, attributes={**kind.standard.attributes, **reals}
        )
        self._put(site, [*sums, node], kind.standard.op_type, reals)

    def by_formula(self, site: Site, kind: Kind, reals: Mapping[str, float]) -> None:
        """Replace the site by the formula in basic operators; 16-bit floats compute in float32."""
        assert site.dtype is not None  # noqa: S101
        dtype = DTYPES[site.dtype]
        op = GraphOps(dtype, site.scope.opsets.get("", 1))
        sums, inputs = self._inputs(site)
        tensors: Sequence[ir.Value] = inputs
        narrow = compute_dtype(dtype) != dtype
        if narrow:
            wide = ONNX_TYPES[compute_dtype(dtype)].value
            tensors = [op.node("Cast", [tensor], to=wide) for tensor in tensors]
        result = kind.formula(op, *tensors, **reals)
        if narrow:
            op.node("Cast", [result], to=site.dtype.value)
        self._put(site, [*sums, *op.nodes], kind.name, reals)

    def finish(self) -> list[Change]:
        """Remove unused nodes, constants, functions and their domains."""
        dead = [*self._old]
        while dead:
            node = dead.pop()
            if node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
                continue
            given = [value for value in node.inputs if value is not None]
            node.graph.remove(node, safe=True)
            for value in given:
                self._forget(value)
                maker = value.producer()
                if maker is not None and (maker in self._old or _is_constant(maker)):
                    dead.append(maker)
        self._forget_functions({node.op_identifier() for node in self._old if node.graph is None})
        return self.changes

    def _inputs(self, site: Site) -> tuple[list[ir.Node], list[ir.Value]]:
        """Return the current inputs of the site, and the nodes that add biases to them."""
        sums: list[ir.Node] = []
        found: list[ir.Value] = []
        for value in site.inputs:
            current = self._current(value)
            if value in site.biases:
                sums.append(ir.node("Add", [current, self._current(site.biases[value])]))
                current = sums[-1].outputs[0]
                current.type, current.shape = value.type, value.shape
            found.append(current)
        return sums, found

    def _current(self, value: ir.Value) -> ir.Value:
        """Return the value that currently replaces ``value``."""
        while value in self._replaced:
            value = self._replaced[value]
        return value

    def _put(
        self, site: Site, nodes: Sequence[ir.Node], what: str, reals: Mapping[str, float]
    ) -> None:
        """Put ``nodes`` where the site's last node is; the last of them takes over its output."""
        root = site.root
        graph = root.graph
        assert graph is not None  # noqa: S101 - it was found in one
        for node in nodes[:-1]:
            node.name = node.outputs[0].name = self._names.free(f"{_stem(root)}{node.op_type}")
        last = nodes[-1]
        last.name = self._names.free(f"{_stem(root)}{last.op_type}")
        for node in nodes:
            node.metadata_props.update(root.metadata_props)
            node.doc_string = root.doc_string
        self._take_over(site.output, last.outputs[0])
        graph.insert_before(root, nodes)
        self._old += [*site.nodes]
        steps = ", ".join(node.op_type for node in site.nodes)
        said = f"{what}({', '.join(f'{n}={r:g}' for n, r in reals.items())})" if reals else what
        self.changes.append(
            Change(
                site.scope.name,
                last.name,
                f"{said} in place of {steps}",
                site.kind,
                site.output.name or last.outputs[0].name or "",
            )
        )

    def _take_over(self, old: ir.Value, new: ir.Value) -> None:
        new.name, new.type, new.shape = old.name, old.type, old.shape
        new.metadata_props.update(old.metadata_props)
        new.meta.update(old.meta)  # with the annotation of its quantisation
        new.doc_string = old.doc_string
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self._replaced[old] = new

    def _imports(self, site: Site) -> dict[str, int]:
        scope = site.scope.opsets
        assert isinstance(scope, dict)  # noqa: S101 - no copy, see Scope
        return scope

    def _scalar(self, site: Site, number: float, dtype: DType) -> ir.Value:
        """A constant: an initializer of the model's graph, or a node inside a function."""
        array = np.array(number, np.dtype(dtype))
        if site.scope.name.startswith("function "):
            graph = site.root.graph
            assert graph is not None  # noqa: S101
            node = ir.node("Constant", [], attributes={"value": ir.tensor(array)})
            node.name = node.outputs[0].name = self._names.free(f"{_stem(site.root)}alpha")
            graph.insert_before(site.root, node)
            return node.outputs[0]
        if (dtype, number) not in self._scalars:
            name = self._names.free(f"alpha_{number:g}")
            value = ir.Value(
                name=name,
                type=ir.TensorType(ONNX_TYPES[dtype]),
                shape=ir.Shape([]),
                const_value=ir.tensor(array, name=name),
            )
            self.model.graph.register_initializer(value)
            self._scalars[dtype, number] = value
        return self._scalars[dtype, number]

    def _body(self, op_type: str, dtype: DType, scope: Scope) -> str:
        """See that the model has our function, and a file format for it; give its overload."""
        function = bodies.ensure(self.model, op_type, dtype, scope.opsets.get("", 1))
        self._at_least(bodies.WITH_OVERLOADS if function.overload else bodies.WITH_FUNCTIONS)
        return function.overload

    def _at_least(self, ir_version: int) -> None:
        if self.model.ir_version < ir_version:
            what = f"IR version {self.model.ir_version} raised to {ir_version}: functions need it"
            self.changes.append(Change("", "", what, "ir"))
            self.model.ir_version = ir_version

    def _forget(self, value: ir.Value) -> None:
        """Remove an initializer that only removed nodes have used."""
        if value.is_initializer() and not (
            value.uses() or value.is_graph_input() or value.is_graph_output()
        ):
            graph = value.graph
            if graph is not None:
                graph.initializers.pop(value.name or "")

    def _forget_functions(self, gone: set[ir.OperatorIdentifier]) -> None:
        """Remove functions that only removed nodes have called, and imports of empty domains."""
        while unused := (gone & {*self.model.functions}) - {n.op_identifier() for n in self._all()}:
            for identifier in unused:
                function = self.model.functions.pop(identifier)
                gone = gone | {node.op_identifier() for node in function.all_nodes()}
        used = {node.domain for node in self._all()} | {d for d, _, _ in self.model.functions}
        for domain in {domain for domain, _, _ in gone} - used - {""}:
            self.model.opset_imports.pop(domain, None)

    def _all(self) -> Iterator[ir.Node]:
        for scope in scopes(self.model):
            yield from scope.graph


def _is_constant(node: ir.Node, depth: int = 16) -> bool:
    """Return true if ``node`` depends on constants only."""
    return depth > 0 and all(
        value is None
        or value.is_initializer()
        or (value.producer() is not None and _is_constant(value.producer(), depth - 1))  # type: ignore[arg-type]
        for value in {*node.inputs}  # each once: paths through constants may be many
    )


def _stem(node: ir.Node) -> str:
    """Return the prefix of new names: the module's path, if the old node's name has it."""
    path, slash, _ = (node.name or "").rpartition("/")
    return f"{path}{slash}" if slash else f"{node.name or node.outputs[0].name}_"
