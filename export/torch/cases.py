"""Inputs on which an exported model is compared with its module: the example and random ones."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import sympy
import torch
from torch import Tensor
from torch.export import ExportedProgram

from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.verify.value_ranges import NORMAL, VALUE_RANGES, ValueRange

MAX_ELEMENTS = 2**22
"""Limit on the elements of inputs at other sizes."""

ENOUGH = 64
"""Elements that suffice to try a range of numbers; smaller inputs are drawn several times."""

MAX_DRAWS = 8

ORDINARY = ("0 to 1", "large", "0 to 255", "zeros and subnormals")
"""Ranges that every module is tried on."""

NAN = "NaN"
"""Case of NaN inputs: a difference is logged, but does not stop the export."""

WIDE = (-9, 100)
"""Integers that an elementwise module is tried on, beside those in the range of the example."""

ELEMENTWISE = frozenset(
    """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
    Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Cos Cosh Div Elu Equal Erf Exp
    Expand Flatten Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu
    Reshape Round Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softplus Softsign Split Sqrt
    Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Transpose Unsqueeze Where Xor
    """.split()  # noqa: SIM905 - a list of ninety strings is no easier to read
)
"""Operators that neither sum over the elements of a tensor nor index it.

Overflow of a sum depends on its order, and an index out of range may crash a process. Numbers at
the limits of their type are therefore tried only on graphs of these operators.
"""


@dataclass(frozen=True)
class ModuleInputs:
    """Inputs of a module.

    Attributes:
        name: Name for display.
        tensors: Tensors in the order of the module's own arguments.
        extreme: True if the module may overflow on them; see `ValueRange`.
    """

    name: str
    tensors: list[Tensor]
    extreme: bool = False


def drawn(
    examples: Sequence[Tensor], program: ExportedProgram, model: ir.Model
) -> Iterator[ModuleInputs]:
    """Yield ordinary numbers at other sizes first, then more and more unusual numbers.

    Integers stay within the range of the example, and booleans are as they are there.
    """
    fixed = [tuple(tensor.shape) for tensor in examples]
    elementwise = _is_elementwise(model)
    yield _case("other numbers", examples, fixed, NORMAL)
    for words, shapes in _sizes(program, fixed):
        yield _case(f"other numbers, {words}", examples, shapes, NORMAL)
    kinds = [kind for kind in VALUE_RANGES if elementwise or kind.name in ORDINARY]
    elements = max(map(math.prod, fixed), default=1)
    for kind in kinds if any(tensor.is_floating_point() for tensor in examples) else ():
        for turn in range(min(MAX_DRAWS, -(-ENOUGH // max(elements, 1)))):
            yield _case(kind.name, examples, fixed, kind, turn=turn)
    on_cpu = all(tensor.device.type == "cpu" for tensor in examples)
    if elementwise and on_cpu and any(_is_integer(tensor) for tensor in examples):
        yield _case("other integers", examples, fixed, NORMAL, integers=WIDE)


def _case(
    name: str,
    examples: Sequence[Tensor],
    shapes: Sequence[tuple[int, ...]],
    kind: ValueRange,
    *,
    turn: int = 0,
    integers: tuple[int, int] | None = None,
) -> ModuleInputs:
    source = np.random.default_rng(zlib.crc32(f"{name} {turn}".encode()))
    tensors = [
        _drawn(example, shape, kind, source, integers)
        for example, shape in zip(examples, shapes, strict=True)
    ]
    return ModuleInputs(name, tensors, kind.extreme)


def _drawn(
    example: Tensor,
    shape: tuple[int, ...],
    kind: ValueRange,
    source: np.random.Generator,
    integers: tuple[int, int] | None,
) -> Tensor:
    if example.is_floating_point() or example.is_complex():
        real = example.dtype.to_real()
        parts = [kind.draw(source, shape, _limits(real)) for _ in range(1 + example.is_complex())]
        with np.errstate(all="ignore"):
            drawn = parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]
        values = torch.from_numpy(np.asarray(drawn))  # without axes NumPy draws a number
    elif _is_integer(example) and example.numel():
        low, high = (int(example.min()), int(example.max()) + 1) if integers is None else integers
        limits = torch.iinfo(example.dtype)
        low, high = max(low, limits.min), min(high, limits.max)
        values = torch.from_numpy(source.integers(low, max(high, low + 1), shape))
    else:
        count = math.prod(shape)
        flat = example.reshape(-1)
        repeated = flat.repeat(-(-count // max(flat.numel(), 1)))[:count]
        values = repeated.reshape(shape) if repeated.numel() == count else torch.zeros(shape)
    values = values.to(example.device, example.dtype)
    return values.requires_grad_(example.requires_grad)


def _limits(dtype: torch.dtype) -> Any:
    """Return NumPy's description of a type: Torch's lacks the least subnormal number."""
    limits = torch.finfo(dtype)

    class FloatLimits:
        max = limits.max
        smallest_normal = limits.smallest_normal
        smallest_subnormal = limits.smallest_normal * limits.eps

    return FloatLimits


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _is_elementwise(model: ir.Model) -> bool:
    inside = [node for function in model.functions.values() for node in function]
    return all(
        node.domain == DOMAIN or (node.domain == "" and node.op_type in ELEMENTWISE)
        for node in (*model.graph.all_nodes(), *inside)
    )


def _sizes(
    program: ExportedProgram, fixed: Sequence[tuple[int, ...]]
) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    """Yield other sizes of the dynamic axes, in words, with the resulting shapes."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [
        nodes[name].meta["val"] for name in program.graph_signature.user_inputs if name in nodes
    ]
    shapes = [
        [_expression(size) for size in value.shape] for value in values if isinstance(value, Tensor)
    ]
    ranges = _ranges(program, shapes)
    if not ranges or len(shapes) != len(fixed):
        return
    example = _solved(shapes, fixed)
    for words, choose in _CHOICES.items():
        chosen = {
            symbol: min(max(choose(example.get(symbol, 2), index), low), high)
            for index, (symbol, (low, high)) in enumerate(ranges.items())
        }
        found = [tuple(int(sympy.sympify(size).subs(chosen)) for size in shape) for shape in shapes]
        if found != list(fixed) and max(map(math.prod, found)) <= MAX_ELEMENTS:
            yield f"{words}: {', '.join(map(str, found))}", found


_CHOICES: Mapping[str, Callable[[int, int], int]] = {
    "other sizes": lambda size, index: size + 1 + index,
    "size 1": lambda _, __: 1,
    "larger sizes": lambda size, index: 2 * size + 3 + index,
}
"""Functions from an axis's size in the example and its index to another size."""


def _expression(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else int(size)


def _ranges(
    program: ExportedProgram, shapes: Sequence[Sequence[Any]]
) -> dict[sympy.Symbol, tuple[int, int]]:
    """Return the symbols in ``shapes`` with their allowed sizes."""
    found: dict[sympy.Symbol, tuple[int, int]] = {}
    for size in (size for shape in shapes for size in shape if isinstance(size, sympy.Expr)):
        for symbol in sorted(size.free_symbols, key=str):
            limits = program.range_constraints.get(symbol)
            low = max(1, int(limits.lower)) if limits is not None else 1
            bounded = limits is not None and bool(limits.upper < MAX_ELEMENTS)
            found[symbol] = low, int(limits.upper) if bounded else MAX_ELEMENTS
    return found


def _solved(
    shapes: Sequence[Sequence[Any]], fixed: Sequence[tuple[int, ...]]
) -> dict[sympy.Symbol, int]:
    """Return the example's sizes of the axes that consist of a single symbol."""
    return {
        size: length
        for shape, lengths in zip(shapes, fixed, strict=True)
        for size, length in zip(shape, lengths, strict=False)
        if isinstance(size, sympy.Symbol)
    }
