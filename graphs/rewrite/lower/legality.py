"""Legality of a model's nodes on a target: the verdict of its files, or of the runtime itself.

The data are in the targets' files: operators with opsets and element types, tables of probed
versions, and defects. The rules here say which entry a node asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gatewave.graphs.analysis import element_types
from gatewave.graphs.analysis.element_types import NAMES, Types
from gatewave.graphs.analysis.scopes import standard_opset
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.rewrite.lower import excerpts
from gatewave.graphs.rewrite.lower.defects import DEFECTIVE_FORMS, DefectiveForm, Operands
from gatewave.graphs.rewrite.lower.lowerings import LOWERINGS, attributes_of, identifier_of
from gatewave.graphs.rewrite.lower.operator_schemas import TYPE_NAMES, disallowed, since
from gatewave.graphs.targets import Target, signatures
from gatewave.graphs.targets.verdicts import REFUSED, RUNS, UNKNOWN, NodeQuery, Verdict

MOVING = frozenset(
    {
        *("Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Flatten"),
        *("Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "Reshape", "Scan"),
        *("Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
"""Operators that move numbers without computing: a target takes them in any element type.

Not so `Expand`, `Size` and `Tile`, which ONNX Runtime refuses in bfloat16.
"""

PROBED_DOMAINS = ("", "com.microsoft", "ai.onnx.ml")
"""Domains that are part of a runtime; operators of other domains come from libraries."""


class Legality:
    """Legality of a model's nodes, as they are when it is made.

    Attributes:
        model: The model.
        target: The target.
        opset: The version of the standard operators that the target reads and that is nearest to
            the model's. Nodes are assessed as if the model had it.
        types: The element types of the main graph and its bodies, as declared or inferred.
    """

    def __init__(self, model: ir.Model, target: Target) -> None:
        self.model = model
        self.target = target
        self.opset = target.opsets.nearest(standard_opset(model.opset_imports) or 1)
        self.types = element_types.of_model(model)
        self._arguments = {value for f in model.functions.values() for value in f.inputs}

    def dtype_of(self, node: ir.Node, types: Types | None = None) -> ir.DataType | None:
        """The element type that ``node`` computes in: of its first input that is no integer.

        A condition, indices or quantised values come before the numbers in `Where`, `OneHot`
        and `DequantizeLinear`. `Where` may select integers, too, so its condition does not count.
        """
        known = self.types if types is None else types
        given = [value for value in node.inputs if value is not None]
        kinds = [value.dtype or known.get(value) for value in given]
        if node.op_type == "Where":
            kinds = kinds[1:]
        return next((kind for kind in kinds if kind is None or kind in NAMES), (*kinds, None)[0])

    def assess(self, node: ir.Node, dtype: ir.DataType | None, types: Types) -> tuple[str, bool]:
        """Return why the target does not run ``node``, or gets it wrong; empty if it runs.

        The second value is false if it is only unknown whether it runs.
        """
        verdict = self.verdict(node, dtype, types)
        why = self._refused(node, dtype, verdict) or self.disallowed(node, dtype, types)
        if why := why or self._defect(node, dtype):
            return why, True
        return (self._not_known(node, dtype), False) if verdict.state == "unknown" else ("", True)

    def refusal(self, node: ir.Node, dtype: ir.DataType | None, types: Types | None = None) -> str:
        """Return why ``node`` must be written in other operators; empty if no reason is known.

        An operator of a domain that the target does not know is left, since a library may bring
        it. It is a reason only if there is a form in standard operators, which surely run.

        Args:
            node: A node of the model.
            dtype: The element type to compute in; inputs of the node's own get it, too.
            types: The element types around it; those of the main graph by default.
        """
        verdict = self.verdict(node, dtype, types)
        if verdict.state == "unknown" and self._is_better_written(identifier_of(node)):
            return self._not_known(node, dtype)
        return self._refused(node, dtype, verdict) or self.disallowed(node, dtype, types)

    def disallowed(
        self, node: ir.Node, dtype: ir.DataType | None, types: Types | None = None
    ) -> str:
        """Return why ONNX refuses ``node`` in ``dtype`` at the target's opset; empty if allowed.

        Older opsets allow fewer element types: `Relu` takes integers from 14 on. A runtime may be
        more lenient than the standard, but the written model must pass ONNX's checker.
        """
        identifier = identifier_of(node)
        if identifier[0] or node.op_identifier() in self.model.functions:
            return ""
        around = self.types if types is None else types
        own = self.dtype_of(node, around)

        def asked(value: ir.Value) -> ir.DataType | None:
            known = value.dtype or around.get(value)
            return dtype if known is not None and known == own else known

        wrong = disallowed(node, self.opset, asked)
        return "" if wrong is None else f"it takes no {TYPE_NAMES[wrong]} in opset {self.opset}"

    def verdict(
        self, node: ir.Node, dtype: ir.DataType | None, types: Types | None = None
    ) -> Verdict:
        """Return the verdict of the target or its files on ``node`` in ``dtype``.

        The runtime itself comes first, where it is installed: it loads a model of the node alone.
        A node that cannot be taken out, such as an `If`, is looked up in the files.
        """
        identifier = identifier_of(node)
        if node.op_identifier() in self.model.functions:
            return RUNS  # its body is assessed instead
        if not identifier[0] and since(node.op_type, self.opset) is None:
            return REFUSED
        if identifier[0] == DOMAIN:
            return REFUSED  # without a function it runs only where our kernels are loaded
        known = self.types if types is None else types
        if self.target.live is not None and identifier[0] in PROBED_DOMAINS:
            own = self.dtype_of(node, known)

            def kind_of(value: ir.Value) -> str:
                return _type_name(value, known, own, dtype)

            alone = excerpts.model([node], kind_of, self.imports([node]))
            found = self.target.live.verdict(alone, node.op_type) if alone else UNKNOWN
            if found.state != "unknown":
                return found
        return self.target.verdict(self._query(node, dtype, known))

    def imports(self, nodes: Sequence[ir.Node]) -> dict[str, int]:
        """Return the imports for a model of ``nodes`` alone."""
        domains = {"": None} | dict.fromkeys(identifier_of(node)[0] for node in nodes)
        return {domain: self._version_of(domain) for domain in domains}

    def type_name(self, value: ir.Value) -> str:
        """Return ONNX's name of a value's element type; ``?`` if it is not known."""
        return _type_name(value, self.types, None, None)

    def defective_form(
        self, node: ir.Node, dtype: ir.DataType | None
    ) -> tuple[DefectiveForm, Operands] | None:
        """Return the form that ``node`` ends and the target gets wrong, and its operands."""
        for form in DEFECTIVE_FORMS:
            if self.target.defect(form.defect) is not None:
                operands = form.match(node, dtype, self._arguments)
                if operands is not None:
                    return form, operands
        return None

    def _defect(self, node: ir.Node, dtype: ir.DataType | None) -> str:
        """Return the target's defect at ``node``; empty without one."""
        found = self.defective_form(node, dtype)
        defect = None if found is None else self.target.defect(found[0].defect)
        return "" if defect is None else f"{self.target.name}: {defect.says}"

    def _refused(self, node: ir.Node, dtype: ir.DataType | None, verdict: Verdict) -> str:
        if verdict.state != "refused":
            return ""
        name = named(node)
        if not node.domain and since(node.op_type, self.opset) is None:
            return f"there is no {name} in opset {self.opset}"
        where = "" if identifier_of(node)[0] else f" at opset {self.opset}"
        why = f": {verdict.why}" if verdict.why else ""
        return f"{self.target.name} does not run {name}{where} in {dtype_name(dtype)}{why}"

    def _version_of(self, domain: str) -> int:
        return self.model.opset_imports.get(domain, 1) if domain else self.opset

    def _query(self, node: ir.Node, dtype: ir.DataType | None, types: Types) -> NodeQuery:
        own = self.dtype_of(node, types)
        stated = signatures.stated(node)
        computed = dtype if dtype is not None or not stated else ir.DataType[stated.upper()]
        inputs = ["" if v is None else _type_name(v, types, own, dtype) for v in node.inputs]
        identifier = identifier_of(node)
        return NodeQuery(
            identifier,
            self._version_of(identifier[0]),
            None if computed is None else dtype_name(computed),
            inputs,
            stated,
            _attributes(node),
            moves=not identifier[0] and node.op_type in MOVING,
        )

    def _not_known(self, node: ir.Node, dtype: ir.DataType | None) -> str:
        where = f" at opset {self.opset}" if not identifier_of(node)[0] else ""
        where += f" in {dtype_name(dtype)}" if dtype is not None else ""
        return f"it is not known whether {self.target.name} runs {named(node)}{where}"

    def _is_better_written(self, identifier: tuple[str, str]) -> bool:
        """Return true for operators of unknown domains with a form in standard operators."""
        return bool(identifier[0]) and identifier in LOWERINGS and not self.target.knows(identifier)


def named(node: ir.Node) -> str:
    """Return the operator, with its domain unless it is the standard one."""
    return "::".join(part for part in identifier_of(node) if part)


def label_of(node: ir.Node) -> str:
    """Return the node's name, or its output's."""
    return node.name or (node.outputs[0].name if node.outputs else None) or ""


def dtype_name(dtype: ir.DataType | None) -> str:
    return "any element type" if dtype is None else NAMES.get(dtype) or dtype.name.lower()


def _type_name(
    value: ir.Value, types: Types, own: ir.DataType | None, dtype: ir.DataType | None
) -> str:
    """Return ONNX's name of an input's element type, or of ``dtype`` if it is the node's own."""
    known = value.dtype or types.get(value)
    if known is None:
        return "?"
    return (dtype if dtype is not None and known == own else known).name.lower()


def _attributes(node: ir.Node) -> dict[str, float | str | None]:
    """Return the attributes; None stands for one that the caller of the function gives."""
    return {**attributes_of(node), **{a.name: None for a in node.attributes.values() if a.is_ref()}}
