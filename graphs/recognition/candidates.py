"""Candidates for an activation at one node, the largest first."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import onnx_ir as ir

from gatewave.graphs.analysis.constants import Constant, cast_target
from gatewave.graphs.analysis.shapes import Shapes
from gatewave.graphs.analysis.thresholds import MAX_WEIGHT_DEPTH
from gatewave.graphs.recognition.candidate import Candidate
from gatewave.graphs.recognition.channels import (
    BENDS,
    FAMILIES,
    ROOTS,
    Channelled,
    channelled,
)
from gatewave.graphs.recognition.expressions import ExpressionReader, Factor
from gatewave.graphs.recognition.kinds import KINDS
from gatewave.graphs.recognition.matching import KindMatch, matches
from gatewave.graphs.recognition.named import named
from gatewave.graphs.recognition.products import ONE, Product, products
from gatewave.graphs.recognition.type_check import WIDTHS, doubt, misfit

_PLACES = {name: place for place, name in enumerate(KINDS)}

_WEIGHING = ("Mul", "Div", "Add", "Sub", "Clip", "Cast", "Identity")

_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
"""Attributes that may take values in that are no inputs of the node."""

NEVER_LAST = ("Identity", "Dropout", "Constant")
"""Operators that may follow an activation, but are no part of it."""

NEGATED = frozenset({"log-sigmoid"})
"""Kinds that end in a `Neg`, as in ``-softplus(-x)``; other sites do not include it."""


def candidates(root: ir.Node, reader: ExpressionReader, known: Shapes) -> Iterator[Candidate]:
    """Yield candidates of one input first; then in the catalogue's order.

    Candidates that compute an activation's numbers, but differ in types or shapes, are included:
    see `Candidate.misfit`.
    """
    if len(root.outputs) != 1 or root.op_type in NEVER_LAST:
        return
    if root.op_type == "Cast" and not _narrows(root, known):
        return
    output = root.outputs[0]
    # -softplus(-x) is a LogSigmoid; for other kinds a Neg after the activation is not part of it.
    if root.op_type == "Neg":
        found = [candidate for candidate in _unary(output, reader) if candidate.kind in NEGATED]
    else:
        found = [*_unary(output, reader), *_binary(output, reader), *_whole(root, reader)]
        found += _of_channels(root, reader, known)
    for candidate in sorted(found, key=_order):
        # Candidates that do not fit are yielded, too: `inspect` lists them as near misses.
        reason = candidate.misfit or misfit(candidate, known, reader)
        unsure = "" if reason else candidate.doubt or doubt(candidate, known)
        yield replace(candidate, misfit=reason, doubt=unsure)


def _order(candidate: Candidate) -> tuple[int, int, int]:
    return (len(candidate.inputs), _PLACES[candidate.kind], -len(candidate.nodes))


def _narrows(cast: ir.Node, known: Shapes) -> bool:
    """Return true if the cast may end a part that another cast began."""
    target = cast_target(cast)
    if target is None or len(cast.inputs) != 1 or cast.inputs[0] is None:
        return False
    source = known.dtype(cast.inputs[0])
    return source != target and source in WIDTHS.get(target, ())


def _unary(output: ir.Value, reader: ExpressionReader) -> Iterator[Candidate]:
    if reader.elementwise(output) is not None:
        for match in matches(reader, reader.expressions((Factor(output),), None)):
            yield _candidate(match, output, reader)


def _candidate(match: KindMatch, output: ir.Value, reader: ExpressionReader) -> Candidate:
    expression = match.expression
    reals, parameters = _reals_of(match)
    return Candidate(
        match.kind,
        reals,
        (expression.source,),
        output,
        _completed(expression.nodes, reader),
        parameters,
        expression.constants,
        match.nan_at_zero,
        expression.nodes,
        biases=_biases(match),
    )


def _of_channels(root: ir.Node, reader: ExpressionReader, known: Shapes) -> Iterator[Candidate]:
    """Yield PReLU and Snake with one parameter per channel."""
    if root.domain == "" and root.op_type in ROOTS:
        found = [*channelled(root, reader, BENDS)]
        for one in found:
            if one.kinds in FAMILIES:
                yield of_channels(one, FAMILIES[one.kinds], root, reader, known)
        if not found and root.op_type == "PRelu" and len(root.inputs) == 2:  # noqa: PLR2004
            x, slope = root.inputs
            if x is not None and slope is not None and reader.constant(slope) is None:
                yield Candidate("prelu", {}, (x,), root.outputs[0], (root,))


def of_channels(
    found: Channelled, kind: str, root: ir.Node, reader: ExpressionReader, known: Shapes
) -> Candidate:
    """Return a candidate with ranges in place of real parameters."""
    expression = found.first.expression
    output = root.outputs[0]
    unsure = ""
    if root.op_type != "PRelu" and not known.equal(output, expression.source):
        shapes = ", ".join(str([*row.shape]) for row in found.rows)
        name = expression.source.name
        unsure = f"its parameters, of shape {shapes}, are not known to leave that of {name}"
    return Candidate(
        kind,
        {},
        (expression.source,),
        output,
        _completed(expression.nodes, reader),
        constants=tuple(c for c in expression.constants if c.shape == ()),
        nan_at_zero=found.first.nan_at_zero,
        inside=expression.nodes,
        doubt=unsure,
        ranges={name: found.ranges[name] for name in KINDS[kind].reals if name in found.ranges},
    )


def _biases(*matches: KindMatch) -> dict[ir.Value, ir.Value]:
    expressions = [match.expression for match in matches]
    return {e.source: e.bias for e in expressions if e.bias is not None}


def _completed(nodes: Collection[ir.Node], reader: ExpressionReader) -> tuple[ir.Node, ...]:
    """Return the nodes in order, with those that give constants the type or shape of inner values.

    A `CastLike`, or an `Expand` to the `Shape` of it: a use of what is inside that needs nothing of
    it but this.
    """
    whole = {*nodes}
    first = min(map(reader.position, whole))
    constants = [
        value
        for node in nodes
        for value in node.inputs
        if value is not None and reader.constant(value) is not None
    ]
    for node in sorted(_behind(constants, first, reader), key=reader.position):
        if any(value is not None and value.producer() in whole for value in node.inputs):
            whole.add(node)
    return tuple(sorted(whole, key=reader.position))


def _behind(values: Collection[ir.Value], first: int, reader: ExpressionReader) -> set[ir.Node]:
    """The nodes that ``values`` are made by, those before the position ``first`` left out."""
    found: set[ir.Node] = set()
    pending = [*values]
    while pending:
        node = pending.pop().producer()
        if node is not None and node not in found and reader.position(node) > first:
            found.add(node)
            pending += [value for value in node.inputs if value is not None]
    return found


def _binary(output: ir.Value, reader: ExpressionReader) -> Iterator[Candidate]:
    """Yield gated units: products of two values, each a kind of one input or an input itself."""
    found: dict[tuple[frozenset[Factor], Constant], list[KindMatch]] = {}

    def through(factors: tuple[Factor, ...], coefficient: Constant) -> list[KindMatch]:
        key = frozenset(factors), coefficient
        if key not in found:
            found[key] = list(matches(reader, reader.expressions(factors, coefficient)))
        return found[key]

    for product in products(output, reader):
        for first, second in _divisions(product.factors):
            for a in (*through(first, product.coefficient), _as_it_is(first, product.coefficient)):
                for b in (*through(second, ONE), _as_it_is(second, ONE)):
                    if a is not None and b is not None:
                        yield from _product(a, b, product, output, reader)


def _divisions(
    factors: tuple[Factor, ...],
) -> Iterator[tuple[tuple[Factor, ...], tuple[Factor, ...]]]:
    """Yield each split of the factors into one factor and the others, in both orders."""
    for index, factor in enumerate(factors):
        others = (*factors[:index], *factors[index + 1 :])
        yield others, (factor,)
        if len(others) > 1:
            yield (factor,), others


def _as_it_is(factors: tuple[Factor, ...], coefficient: Constant) -> ir.Value | None:
    (factor, *others) = factors
    whole = not others and factor.power == 1 and coefficient.number == 1.0
    return factor.value if whole else None


def _product(
    a: KindMatch | ir.Value,
    b: KindMatch | ir.Value,
    product: Product,
    output: ir.Value,
    reader: ExpressionReader,
) -> Iterator[Candidate]:
    """The kinds with these parts."""
    parts = tuple(part.kind if isinstance(part, KindMatch) else None for part in (a, b))
    made = [part for part in (a, b) if isinstance(part, KindMatch)]
    sources = tuple(p.expression.source if isinstance(p, KindMatch) else p for p in (a, b))
    if not made or sources[0] is sources[1]:
        return
    reals, parameters = _reals_of(made[0])
    # Only what the first goes through has real parameters; that of Swish is 1 unless it is named.
    named = {**reals} == dict.fromkeys(reals, 1.0) and not parameters
    for kind in KINDS.values():
        if kind.parts == parts and (kind.reals or named):
            # x · σ(αx + b), with rows of weights, is Swish with parameters per channel, not a GLU.
            if kind.parts[0] is None and _weighted(*sources):
                continue
            nodes = {*product.nodes, *(n for m in made for n in m.expression.nodes)}
            constants = (product.coefficient, *(c for m in made for c in m.expression.constants))
            yield Candidate(
                kind.name,
                reals if kind.reals else {},
                sources,
                output,
                _completed(nodes, reader),
                parameters,
                constants,
                any(match.nan_at_zero for match in made),
                nodes,
                biases=_biases(*made),
            )


def _weighted(one: ir.Value, other: ir.Value) -> bool:
    """Return true if one is the other times or plus weights: x · σ(α·x), with a row of α.

    Swish with an alpha for each channel is no gated unit, though it is a product of two.
    """
    return any(value is other for value in _weighed(one)) or any(
        value is one for value in _weighed(other)
    )


def _weighed(value: ir.Value) -> Iterator[ir.Value]:
    """Yield the values from which ``value`` is computed with weights alone, the nearest first."""
    for _ in range(MAX_WEIGHT_DEPTH):
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in _WEIGHING:
            return
        given = [v for v in node.inputs if v is not None and not _is_of_weights(v)]
        if len(given) != 1:
            return
        (value,) = given
        yield value


def _is_of_weights(value: ir.Value, depth: int = MAX_WEIGHT_DEPTH) -> bool:
    """Return true for a weight, a replaceable default, or a value computed from those."""
    if value.is_initializer():
        return True
    node = value.producer()
    if node is None or depth == 0 or any(a.type in _BODIES for a in node.attributes.values()):
        return False
    return all(v is None or _is_of_weights(v, depth - 1) for v in {*node.inputs})


def _reals_of(match: KindMatch) -> tuple[dict[str, float], dict[str, ir.Value]]:
    """The real parameters, and those of them that are inputs of the model."""
    parameter = match.expression.parameter
    if parameter is None or parameter.const_value is None:
        return dict(match.reals), {}
    return {"alpha": float(parameter.const_value.numpy())}, {"alpha": parameter}


def _whole(root: ir.Node, reader: ExpressionReader) -> Iterator[Candidate]:
    """One node that is a kind of two inputs by its name, or by the function that it calls."""
    function = reader.functions.get(root.op_identifier())
    found = named(root) if function is None or reader.is_named(root) else None
    if found is not None:
        kind, reals, parameters = found
        tensors = tuple(value for value in root.inputs[:2] if value is not None)
        if len(tensors) == len(kind.inputs):
            yield Candidate(kind.name, reals, tensors, root.outputs[0], (root,), parameters)
    elif function is not None and reader.depth > 0:
        yield from _called(root, function, reader)


def _called(call: ir.Node, function: ir.Function, reader: ExpressionReader) -> Iterator[Candidate]:
    """A call of a function that consists of one activation of its inputs."""
    if len(function.outputs) != 1 or call.attributes or len(call.inputs) != len(function.inputs):
        return
    root = function.outputs[0].producer()
    given = dict(zip(function.inputs, call.inputs, strict=True))
    inside = reader.inside(function)
    if root is None or root not in inside.order or len(function.inputs) != 2:  # noqa: PLR2004
        return
    # Memoised for each function: the number of nested calls may be exponential.
    if root not in inside.found:
        inside.found[root] = list(candidates(root, inside, Shapes({})))
    for found in inside.found[root]:
        if found.misfit or found.biases:
            continue
        tensors = tuple(given.get(value) for value in found.inputs)
        whole = tuple(tensor for tensor in tensors if tensor is not None)
        if len(whole) == len(function.inputs) and not found.parameters:
            yield Candidate(
                found.kind,
                found.reals,
                whole,
                call.outputs[0],
                (call,),
                constants=found.constants,
                nan_at_zero=found.nan_at_zero,
            )
