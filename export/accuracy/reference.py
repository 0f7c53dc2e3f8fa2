"""The exact results that exports are measured against, and the inputs they are measured on.

Two tiers. float64 results are measured against the record's formula itself, evaluated by mpmath at
as many digits as it takes. Shorter floats are measured, over dense inputs, against the record's
decomposition in float64, which that first tier has measured. A user's module without a formula is
its own reference, in float64.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mpmath
import sympy
import torch
from torch import Tensor

from gatewave.export.accuracy.kinks import Kink, find
from gatewave.export.errors import NotAnActivationError
from gatewave.graphs.evidence import Evidence
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import Graph
from gatewave.models import Activation, DType, Operator
from gatewave.models.symbols import EXACT, is_undefined
from gatewave.models.torch.ops import FLOAT64

DIGITS = 40
"""Decimal digits of the first evaluation; each further one has twice as many."""

MAX_DIGITS = 2560
"""Limit on the digits. The sine of π times the largest float64 needs 309 more than its result."""

AGREEMENT = mpmath.mpf(10) ** -25
"""Relative difference below which two successive evaluations count as the exact value."""

UNDERFLOW = mpmath.mpf(10) ** -400
"""Magnitude below every float64. An exact 0 keeps a remainder that never agrees with the next."""

DRAWN = "a dense grid, magnitudes from the least to the greatest, and special values"
"""Origin of the inputs of 32 and 64 bits that `samples` draws, in words."""

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 20.0, -20.0, 100.0, -100.0, 1e4, -1e4)
NOT_FINITE = (float("inf"), float("-inf"), float("nan"))


@dataclass(frozen=True, slots=True)
class Exact:
    """Exact results as unevaluated sums ``high + low`` of float64 tensors."""

    high: Tensor
    low: Tensor


def samples(activation: Activation, graph: Graph, dtype: DType) -> list[Tensor]:
    """Inputs that try the whole domain: one flat tensor for each of the graph's inputs.

    16-bit floats: all 65,536 values, in every input. Longer ones: a dense grid over the interesting
    range and beyond, integers, and magnitudes from the least subnormal to the greatest. Both: all
    combinations of special values.
    """
    kind = getattr(torch, dtype)
    line = _all_16_bit(kind) if kind.itemsize == 2 else _line(activation, kind)  # noqa: PLR2004
    line = _with_kinks(line, kinks(activation, activation.operators[0]))
    # The seed is fixed: a certificate states the errors of the same inputs on each run.
    shuffle = torch.Generator().manual_seed(0)
    columns = [line] + [
        line[torch.randperm(len(line), generator=shuffle)] for _ in activation.inputs[1:]
    ]
    special = torch.tensor([*SPECIAL, *NOT_FINITE, torch.finfo(kind).max], dtype=kind)
    corners = list(zip(*itertools.product(special, repeat=len(columns)), strict=True))
    columns = [torch.cat([c, torch.stack(k)]) for c, k in zip(columns, corners, strict=True)]
    if all(map(math.isfinite, activation.domain)):
        low, high = activation.domain
        table = torch.stack(columns)
        columns = list(table[:, ((table >= low) & (table <= high)).all(dim=0)])
    if graph == "vjp":
        # Half the greatest number: the derivative times grad_y may be in range where it is not.
        half = torch.finfo(kind).max / 2
        columns = [torch.where(c.isinf(), c, c.clamp(-half, half)) for c in columns]
        columns.append(torch.randn(len(columns[0]), generator=shuffle).to(kind))
    return columns


def evidence(tensors: Sequence[Tensor]) -> Evidence:
    """Return the level of evidence of a comparison on ``tensors``, one for each input.

    It is exhaustive if there is one input and it has every bit pattern of a 16-bit type. Several
    inputs would take every tuple, 2^32 pairs: `samples` draws fewer.
    """
    kind = tensors[0].dtype
    name, count = str(kind).removeprefix("torch."), len(tensors[0])
    if kind.itemsize != 2:  # noqa: PLR2004
        return Evidence(level="sampled", inputs=count, drawn=f"{DRAWN} of {name}")
    values = [len({*tensor.view(torch.int16).tolist()}) for tensor in tensors]
    if values == [2**16]:
        return Evidence(level="exhaustive", inputs=2**16, drawn=f"every value of {name}")
    drawn = f"with {' and '.join(f'{n:,}' for n in values)} different values of {name}"
    return Evidence(level="sampled", inputs=count, drawn=drawn)


def _with_kinks(line: Tensor, found: Sequence[Kink]) -> Tensor:
    """Add the kinks and their neighbours.

    If the dtype cannot represent a kink, the nearest value is left out: a graph, whose constants
    have that dtype, may be on the other side of the kink than the reference there.
    """
    exact = torch.tensor([kink.x for kink in found], dtype=torch.float64)
    rounded = exact.to(line.dtype)
    held = rounded.double() == exact
    line = line[~(line[:, None] == rounded[~held]).any(dim=1)]
    if line.dtype.itemsize == 2:  # noqa: PLR2004 - all values are there
        return line
    infinity = torch.full_like(rounded[held], torch.inf)
    before, after = (torch.nextafter(rounded[held], end) for end in (-infinity, infinity))
    return torch.cat([line, rounded[held], before, after])


@functools.cache
def kinks(activation: Activation, operator: Operator) -> tuple[Kink, ...]:
    """Points where the slope of a function of one input jumps; empty for several inputs.

    It is also empty for functions with a formula, which defines the slope there, and for functions
    without a derivative.
    """
    if len(activation.inputs) > 1 or not is_undefined(activation.expression(operator)):
        return ()
    low, high = activation.domain
    try:
        return find(lambda x: decomposition(activation, operator, "grad", [x])[1], low, high)
    except NotAnActivationError:
        return ()


def _all_16_bit(kind: torch.dtype) -> Tensor:
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(kind)


def _line(activation: Activation, kind: torch.dtype) -> Tensor:
    low, high = activation.plot_range
    dense, sparse = (20_001, 2_001) if kind == torch.float32 else (401, 61)
    limits = torch.finfo(kind)
    powers = torch.linspace(-1, 1, sparse, dtype=torch.float64)
    span = torch.where(
        powers < 0,
        limits.smallest_normal ** powers.abs(),
        limits.max ** powers.abs() * (1 - 1e-9),
    )
    least = torch.tensor([limits.smallest_normal * limits.eps], dtype=torch.float64)
    magnitudes = torch.cat([span, least, torch.arange(1.0, 65.0, dtype=torch.float64)])
    return torch.cat(
        [
            torch.linspace(low, high, dense, dtype=torch.float64),
            torch.linspace(4 * low, 4 * high, sparse, dtype=torch.float64),
            magnitudes,
            -magnitudes,
        ]
    ).to(kind)


def exact(
    activation: Activation, operator: Operator, graph: Graph, tensors: Sequence[Tensor]
) -> list[Exact]:
    """Return the exact results of ``graph`` for ``tensors``, with default real parameters."""
    found = decomposition(activation, operator, graph, tensors)
    if tensors[0].dtype != torch.float64 or is_undefined(activation.expression(operator)):
        return [Exact(result, torch.zeros_like(result)) for result in found]
    finite = torch.stack(list(tensors)).isfinite().all(dim=0)
    evaluate = definition(activation, operator, **activation.defaults(operator))
    rows = torch.stack(list(tensors), dim=1)[finite].tolist()
    columns = zip(*(_results(evaluate, graph, row) for row in rows), strict=True)
    return [_split(column, finite, result) for column, result in zip(columns, found, strict=True)]


def decomposition(
    activation: Activation, operator: Operator, graph: Graph, tensors: Sequence[Tensor]
) -> list[Tensor]:
    """Return the results of the record's decompositions, computed by Torch in float64."""
    wide = [tensor.double() for tensor in tensors]
    results = signature.function(operator, graph)(FLOAT64, *wide, **activation.defaults(operator))
    return [result.detach() for result in results]


def _results(
    evaluate: Callable[..., tuple[mpmath.mpf, ...]], graph: Graph, row: Sequence[float]
) -> tuple[mpmath.mpf, ...]:
    if graph != "vjp":
        found = evaluate(*row)
        return found[:1] if graph == "value" else found
    *point, grad_y = row
    with mpmath.workdps(DIGITS):
        return tuple(grad_y * partial for partial in evaluate(*point)[1:])


def _split(column: Sequence[mpmath.mpf], finite: Tensor, elsewhere: Tensor) -> Exact:
    high = elsewhere.clone()
    low = torch.zeros_like(high)
    nearest = [_nearest(value) for value in column]
    with mpmath.workdps(DIGITS):
        rest = [
            float(value - near) if math.isfinite(near) else 0.0
            for value, near in zip(column, nearest, strict=True)
        ]
    high[finite] = torch.tensor(nearest, dtype=torch.float64)
    low[finite] = torch.tensor(rest, dtype=torch.float64)
    return Exact(high, low)


def _nearest(value: mpmath.mpf) -> float:
    """The float64 nearest to ``value``: mpmath's own is rounded twice where that is subnormal."""
    if not _LEAST < abs(value) < _GREATEST:
        return float(value)
    # Not mpf(value), which would round to the precision that happens to be set.
    numerator, denominator = mpmath.libmp.to_rational(mpmath.mpmathify(value)._mpf_)
    return float(numerator / denominator)


_LEAST = mpmath.mpf(2) ** -1080
_GREATEST = mpmath.mpf(2) ** 1023


@functools.cache
def definition(
    activation: Activation, operator: Operator, **reals: float
) -> Callable[..., tuple[mpmath.mpf, ...]]:
    """The formula and its derivatives as a function of floats, exact to 25 significant digits."""
    symbols = [sympy.Symbol(name, real=True) for name in activation.inputs]
    formula = activation.expression(operator).subs(
        {sympy.Symbol(name, real=True): sympy.Rational(value) for name, value in reals.items()}
    )
    expressions = [formula, *(sympy.diff(formula, symbol) for symbol in symbols)]
    compute = sympy.lambdify(symbols, expressions, modules=[dict(EXACT), "mpmath"])

    @functools.cache
    def evaluate(*point: float) -> tuple[mpmath.mpf, ...]:
        try:
            found = _settled(lambda: compute(*(mpmath.mpf(value) for value in point)))
        except ZeroDivisionError:  # a pole
            return (mpmath.nan,) * len(expressions)
        return tuple(mpmath.nan if isinstance(f, mpmath.mpc) else f for f in found)

    return evaluate


def _settled(compute: Callable[[], Sequence[mpmath.mpf]]) -> tuple[mpmath.mpf, ...]:
    """Return the result of ``compute`` once doubling the digits no longer changes it."""
    digits = DIGITS
    with mpmath.workdps(digits):
        found = compute()
    while digits < MAX_DIGITS:
        digits *= 2
        before = found
        with mpmath.workdps(digits):
            found = compute()
            if all(map(_agree, before, found)):
                break
    return tuple(found)


def _agree(old: mpmath.mpf, new: mpmath.mpf) -> bool:
    return bool(abs(new) < UNDERFLOW or abs(new - old) <= AGREEMENT * abs(new))
