"""A value as a product of others: every way to stop taking it apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from gatewave.graphs.analysis.constants import Constant, cast_target, times
from gatewave.graphs.analysis.numpy_ops import FLOATS
from gatewave.graphs.analysis.thresholds import MAX_FACTORS, MAX_PRODUCTS
from gatewave.graphs.recognition.expressions import ExpressionReader, Factor

_PASSING = ("Identity", "Cast", "Neg")


@dataclass(frozen=True, slots=True)
class Product:
    """``coefficient · Π factors``, made by ``nodes`` of the ``factors``."""

    factors: tuple[Factor, ...]
    coefficient: Constant
    nodes: tuple[ir.Node, ...]


ONE = Constant(1.0, 0.0)


def products(root: ir.Value, reader: ExpressionReader) -> Iterator[Product]:
    """Yield the products that give ``root``, of two factors or more; those of few factors first."""
    pending = [Product((Factor(root),), ONE, ())]
    seen: set[frozenset[Factor]] = set()
    while pending and len(seen) < MAX_PRODUCTS:
        product = pending.pop(0)
        key = frozenset(product.factors)
        if key in seen or len(product.factors) > MAX_FACTORS:
            continue
        seen.add(key)
        # A factor that occurs twice makes a square, which is no gated unit.
        if len(key) > 1 and len(key) == len(product.factors):
            yield product
        for index in range(len(product.factors)):
            apart = _apart(product, index, reader)
            if apart is not None:
                pending.append(apart)


def _apart(product: Product, index: int, reader: ExpressionReader) -> Product | None:
    """``product`` with one factor taken apart, if a product of ours makes it."""
    factor = product.factors[index]
    node = factor.value.producer()
    if node is None or node not in reader.order or node.domain != "":
        return None
    parts = _parts(node, factor.power)
    if parts is None:
        return None
    coefficient = product.coefficient
    factors: list[Factor] = []
    for part in parts:
        number = reader.constant(part.value)
        if number is None:
            factors.append(part)
        else:
            coefficient = times(coefficient, number, part.power)
    if node.op_type == "Neg":
        coefficient = times(coefficient, Constant(-1.0, 0.0), 1)
    rest = product.factors
    return Product(
        (*rest[:index], *factors, *rest[index + 1 :]), coefficient, (*product.nodes, node)
    )


def _parts(node: ir.Node, power: int) -> list[Factor] | None:
    operands = [value for value in node.inputs if value is not None]
    if node.op_type in _PASSING and len(operands) == 1:
        if node.op_type == "Cast" and cast_target(node) not in FLOATS:
            return None
        return [Factor(operands[0], power)]
    if node.op_type in {"Mul", "Div"} and len(operands) == 2:  # noqa: PLR2004
        second = power if node.op_type == "Mul" else -power
        return [Factor(operands[0], power), Factor(operands[1], second)]
    return None
