"""Candidate shapes for the inputs of a model whose axes are open, ordinary sizes first.

A graph does not state which sizes it takes: the sides of an image may have to be multiples of 32,
and a window of sound 576 samples long. The model itself is therefore tried on each candidate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gatewave.graphs.verify.ports import Port
from gatewave.graphs.verify.thresholds import MAX_ELEMENTS

InputShapes = Mapping[str, tuple[int, ...]]
"""The shape of each input."""

Sizes = dict[str, int]
"""Size of each symbol."""

RANKS = (2, 1, 0, 3)
"""Ranks that are tried for inputs of open rank."""

ODD = (3, 5, 7, 11, 13, 17, 19)
MAX_NAMED = 4
LONG = (32, 64, 8, 128, 256, 320, 512, 576, 640, 1024)

Axis = tuple[str, int, int]
"""Open axis: the input's name, the axis's number, and the input's rank."""


@dataclass(frozen=True)
class Open:
    """Open size, with all axes that have it."""

    symbol: str
    axes: tuple[Axis, ...]

    def is_trailing(self) -> bool:
        return any(axis == rank - 1 for _, axis, rank in self.axes)

    def is_spatial(self) -> bool:
        return any(axis > 1 for _, axis, _ in self.axes)

    def is_inner(self) -> bool:
        return any(axis > 0 for _, axis, _ in self.axes)

    def is_any(self) -> bool:
        return bool(self.axes)


def candidates(inputs: Sequence[Port]) -> Iterator[tuple[str, InputShapes]]:
    """Yield shapes to try, each with its name; only one if all sizes are fixed.

    Shapes beyond `MAX_ELEMENTS` are left out, so that there may be none.
    """
    for block in blocks(inputs):
        yield from block


def blocks(inputs: Sequence[Port]) -> Iterator[list[tuple[str, InputShapes]]]:
    """Yield the candidates in groups: ordinary sizes, then a group for each size in `LONG`."""
    yield from _shapes(inputs, _assignments)


def empties(inputs: Sequence[Port]) -> Iterator[tuple[str, InputShapes]]:
    """Yield shapes without elements, which a model may take or refuse."""
    for block in _shapes(inputs, _emptied):
        yield from block


def _shapes(
    inputs: Sequence[Port], assignments: Callable[[Sequence[Open]], Iterator[list[Sizes]]]
) -> Iterator[list[tuple[str, InputShapes]]]:
    seen: list[InputShapes] = []
    ranked = any(port.shape is None for port in inputs)
    for rank in RANKS if ranked else (0,):
        fixed = [with_rank(port, rank) for port in inputs]
        for block in assignments(_opens(fixed)):
            found: list[tuple[str, InputShapes]] = []
            for sizes in block:
                shapes = {port.name: shape_of(port, sizes) for port in fixed}
                if shapes not in seen and _fits(shapes):
                    seen.append(shapes)
                    words = _words(sizes)
                    found.append((f"rank {rank}, {words}".strip(", ") if ranked else words, shapes))
            yield found


def with_rank(port: Port, rank: int) -> Port:
    if port.shape is not None:
        return port
    # All inputs of open rank share the names of axes: a graph for any rank is mostly elementwise.
    axes = tuple(f"axis {axis}" for axis in range(rank))
    return Port(port.name, port.dtype, port.wrapped, axes, port.default)


def shape_of(port: Port, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(
        size if isinstance(size, int) else _evaluated(symbol, sizes)
        for size, symbol in zip(port.shape or (), symbols(port), strict=True)
    )


def symbols(port: Port) -> list[str]:
    """Return the name of the size of each axis; an open axis without a name gets its own."""
    return [
        f"{port.name}[{axis}]" if size is None else str(size)
        for axis, size in enumerate(port.shape or ())
    ]


def _opens(inputs: Sequence[Port]) -> list[Open]:
    found: dict[str, list[Axis]] = {}
    for port in inputs:
        shape = port.shape or ()
        for axis, (size, symbol) in enumerate(zip(shape, symbols(port), strict=True)):
            if not isinstance(size, int):
                for free in _free(symbol):
                    found.setdefault(free, []).append((port.name, axis, len(shape)))
    return [Open(symbol, tuple(axes)) for symbol, axes in found.items()]


def _assignments(opens: Sequence[Open]) -> Iterator[list[Sizes]]:
    """Yield sizes for all symbols: all different, all equal, then some much larger than others."""
    odd = itertools.cycle(ODD)
    names = [one.symbol for one in opens]
    different = {name: next(odd) for name in names}
    yield [different, dict.fromkeys(names, 2), dict.fromkeys(names, 1)]
    for long in LONG:
        yield [
            {one.symbol: long if is_long(one) else few for one in opens}
            for few in (2, 1)
            for is_long in (Open.is_spatial, Open.is_inner, Open.is_trailing, Open.is_any)
        ]


def _emptied(opens: Sequence[Open]) -> Iterator[list[Sizes]]:
    if opens:
        different = {one.symbol: 2 if one.is_inner() else 0 for one in opens}
        yield [different, dict.fromkeys((one.symbol for one in opens), 0)]


def _words(sizes: Sizes) -> str:
    if len(sizes) > MAX_NAMED:
        return f"{len(sizes)} sizes from {min(sizes.values())} to {max(sizes.values())}"
    return ", ".join(f"{symbol} {size}" for symbol, size in sizes.items())


def _free(symbol: str) -> frozenset[str]:
    """Return the names in a computed size: ``past`` for ``past + 1``; a plain name is its own."""
    # The name comes from the file: evaluating 9**9**9**9 would never end.
    if "**" in symbol:
        return frozenset({symbol})
    try:
        return ir.SymbolicDim(symbol).free_symbols() or frozenset({symbol})
    except ValueError:
        return frozenset({symbol})


def _evaluated(symbol: str, sizes: Mapping[str, int]) -> int:
    if symbol in sizes:
        return sizes[symbol]
    size = ir.SymbolicDim(symbol).evaluate(dict(sizes))
    return max(0, size if isinstance(size, int) else 0)


def _fits(shapes: InputShapes) -> bool:
    return all(math.prod(shape) <= MAX_ELEMENTS for shape in shapes.values())
