"""Replacement of activations by our operator, by ONNX's operator, or by their formula."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, compute_dtype
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_VERSION
from gatewave.graphs.recognition.kinds import Kind
from gatewave.graphs.recognition.sites import Site
from gatewave.graphs.rewrite.editing.drawing import Drawing
from gatewave.graphs.rewrite.editing.editor import Editor
from gatewave.graphs.rewrite.editing.names import beside
from gatewave.graphs.rewrite.operator_functions import add_function, ir_version_for
from gatewave.graphs.rewrite.outcome import Change
from gatewave.models import DType


class Replacement:
    """Replaces sites of one model, one after the other; `finish` removes unused functions."""

    def __init__(self, model: ir.Model) -> None:
        self._editor = Editor(model)
        self._changes: list[Change] = []
        self._replaced: dict[ir.Value, ir.Value] = {}

    def by_ours(
        self,
        site: Site,
        kind: Kind,
        reals: Mapping[str, float],
        parameters: Mapping[str, ir.Value],
    ) -> None:
        """Replace the site by our operator of that kind, whose function the model gets.

        Real parameters are those inputs of the model that ``parameters`` has, or else constants.
        `availability.missing` returns the operators that the site's opset lacks.
        """
        assert kind.operator is not None and site.dtype is not None  # noqa: S101, PT018 - see fuse
        op_type = kind.operator.op_type
        overload = self._add_function(op_type, NAMES[site.dtype], site)
        op = self._drawing(site)
        scalars = [parameters.get(name) or op.parameter(name, real) for name, real in reals.items()]
        result = op.call(DOMAIN, op_type, [*self._inputs(op, site), *scalars], overload=overload)
        self._put(site, op, result, op_type, reals)

    def by_standard(self, site: Site, kind: Kind, reals: Mapping[str, float]) -> None:
        """Replace the site by ONNX's own operator of that kind."""
        assert kind.standard is not None  # noqa: S101 - see `availability.has_standard`
        op = self._drawing(site)
        attributes = {**kind.standard.attributes, **reals}
        result = op.node(kind.standard.op_type, self._inputs(op, site), **attributes)
        self._put(site, op, result, kind.standard.op_type, reals)

    def by_formula(self, site: Site, kind: Kind, reals: Mapping[str, float]) -> None:
        """Replace the site by the formula in basic operators; 16-bit floats compute in float32."""
        assert site.dtype is not None  # noqa: S101 - see `availability.missing_for_formula`
        dtype = NAMES[site.dtype]
        op = self._drawing(site)
        tensors = self._inputs(op, site)
        narrow = compute_dtype(dtype) != dtype
        if narrow:
            wide = ONNX_TYPES[compute_dtype(dtype)].value
            tensors = [op.node("Cast", [tensor], to=wide) for tensor in tensors]
        result = kind.formula(op, *tensors, **reals)
        if narrow:
            result = op.node("Cast", [result], to=site.dtype.value)
        self._put(site, op, result, kind.name, reals)

    def finish(self) -> list[Change]:
        """Remove functions that are no longer called; return all changes."""
        self._editor.finish()
        return self._changes

    def _drawing(self, site: Site) -> Drawing:
        dtype = site.dtype or ir.DataType.FLOAT
        return self._editor.drawing(site.root, site.scope, dtype, prefix=beside(site.root))

    def _inputs(self, op: Drawing, site: Site) -> list[ir.Value]:
        """Return the current inputs of the site, with biases added to them."""
        found: list[ir.Value] = []
        for value in site.inputs:
            current = self._current(value)
            if value in site.biases:
                current = op.node("Add", [current, self._current(site.biases[value])])
                current.type, current.shape = value.type, value.shape
            found.append(current)
        return found

    def _current(self, value: ir.Value) -> ir.Value:
        """Return the value that currently replaces ``value``."""
        while value in self._replaced:
            value = self._replaced[value]
        return value

    def _put(
        self, site: Site, op: Drawing, result: ir.Value, what: str, reals: Mapping[str, float]
    ) -> None:
        """Put the drawn nodes where the site's last node is; ``result`` replaces its output.

        The site's other nodes go when nothing uses them: two sites may share a gate.
        """
        name = result.name or ""
        given = list(site.root.inputs)
        self._editor.replace(site.root, op.needed([result]), [(site.output, result)])
        self._editor.sweep(given)
        self._replaced[site.output] = result
        steps = ", ".join(node.op_type for node in site.nodes)
        said = f"{what}({', '.join(f'{n}={r:g}' for n, r in reals.items())})" if reals else what
        output = site.output.name or result.name or ""
        change = f"{said} in place of {steps}"
        self._changes.append(Change(site.scope.name, name, change, site.kind, output))

    def _add_function(self, op_type: str, dtype: DType, site: Site) -> str:
        """Give the model our function and what it needs in the file; return its overload."""
        model, imports = self._editor.model, site.scope.opsets
        function = add_function(model, op_type, dtype, site.scope.opset)
        needed = ir_version_for(function)
        if model.ir_version < needed:
            what = f"IR version {model.ir_version} raised to {needed}: functions need it"
            self._changes.append(Change("", "", what, "ir"))
            model.ir_version = needed
        assert isinstance(imports, dict)  # noqa: S101 - no copy, see Scope
        imports[DOMAIN] = model.opset_imports[DOMAIN] = DOMAIN_VERSION
        return function.overload
