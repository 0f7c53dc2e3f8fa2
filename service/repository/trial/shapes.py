"""Candidate shapes for a model's inputs with open sizes, in the order of trial.

The graph does not declare the sizes that it accepts: a convolution needs as many samples as its
kernel has, the sides of an image may have to be multiples of 32, an LSTM's window is 576 samples
long. Sizes are therefore raised until the model runs. `gatewave verify` tries its sizes in the same
groups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gatewave.service.repository.model import RepositoryModel
from gatewave.service.serving.model import ANY, Port

Shapes = dict[str, tuple[int, ...]]
"""Shape of each required input."""

LADDER = (
    *(2, 4, 3, 8, 16, 6, 12, 32, 64, 24, 48, 128, 256, 320, 512, 576, 640, 1024, 224, 96, 160),
    *(2048, 4096, 800, 1600, 8192, 16_000, 16_384, 32_768, 48_000, 65_536, 160_000),
)
"""Sizes from small to large; the usual ones of images, audio windows and tokens come first."""

COMMON = 14
"""Number of sizes in `LADDER` that are tried with all groups of axes before the others."""
DISTINCT = (3, 5, 7, 11, 13, 17, 19, 23)
"""Sizes of the last candidate: one for each open size, for models that confuse equal sizes."""
MAX_ALONE = 8
"""Number of open sizes up to which each is also raised alone: the trials grow with the number."""
MAX_ELEMENTS = 1 << 24
"""Largest candidate in elements of one input: 64 MiB of float32."""
RANKS = (1, 2, 3, 4, 0)
"""Ranks to try for an input of any rank."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Position of an open axis in an input."""

    position: int
    rank: int


Group = Callable[[list[Axis]], bool]
"""Predicate: is a size raised that these axes have?"""

WITHIN_ROWS: tuple[Group, ...] = (
    lambda axes: all(axis.position > 0 for axis in axes),
    lambda axes: all(axis.position == axis.rank - 1 > 0 for axis in axes),
    lambda axes: all(axis.position > 1 for axis in axes),
)
"""Groups of axes: all but the first, the last ones, and the sides of images."""
WITH_ROWS: tuple[Group, ...] = (lambda axes: all(axis.position == 0 for axis in axes), bool)
"""Groups of axes: the first ones, and all."""


def format_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the shapes as one line of text."""
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def candidates(model: RepositoryModel, given: Mapping[str, tuple[int, ...]]) -> Iterator[Shapes]:
    """Yield shapes for the inputs that ``model`` needs, each once; the first has 1 for open sizes.

    Args:
        model: A model that is loaded.
        given: Shapes of some inputs; their sizes hold for axes of the same name, too.
    """
    needed = [port for port in model.inputs if port.name not in model.optional]
    any_rank = [port.name for port in needed if port.name in model.unranked]
    seen: list[Shapes] = []
    for rank in RANKS if set(any_rank) - set(given) else RANKS[:1]:
        symbols = {port.name: _symbols(model, port, rank) for port in model.inputs}
        known = _known_sizes(symbols, given)
        for sizes in _assignments(_axes(needed, symbols, given), known):
            shapes = {
                port.name: given[port.name]
                if port.name in given
                else tuple(s if isinstance(s, int) else sizes[s] for s in symbols[port.name])
                for port in needed
            }
            # The first candidate is tried at any size: only the graph or the operator chose it.
            if shapes not in seen and (not seen or all(map(_is_small, shapes.values()))):
                seen.append(shapes)
                yield shapes


def _is_small(shape: tuple[int, ...]) -> bool:
    return math.prod(shape) <= MAX_ELEMENTS


def _symbols(model: RepositoryModel, port: Port, rank: int) -> list[str | int]:
    """Return for each axis its size or its symbol; open sizes without a symbol get a unique one."""
    if port.name in model.unranked:
        return [f"{port.name}[{axis}]" for axis in range(rank)]
    return [
        (name or f"{port.name}[{axis}]") if size == ANY else size
        for axis, (size, name) in enumerate(zip(port.shape, model.symbols[port.name], strict=True))
    ]


def _known_sizes(
    symbols: Mapping[str, list[str | int]], given: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Return the sizes by symbol that the configuration gives."""
    return {
        symbol: size
        for name, shape in given.items()
        for symbol, size in zip(symbols[name], shape, strict=False)
        if isinstance(symbol, str)
    }


def _axes(
    needed: list[Port], symbols: Mapping[str, list[str | int]], given: Mapping[str, object]
) -> dict[str, list[Axis]]:
    """Return the axes that have each open size."""
    found: dict[str, list[Axis]] = {}
    for port in needed:
        if port.name not in given:
            rank = len(symbols[port.name])
            for position, symbol in enumerate(symbols[port.name]):
                if isinstance(symbol, str):
                    found.setdefault(symbol, []).append(Axis(position, rank))
    return found


def _assignments(
    axes: Mapping[str, list[Axis]], known: Mapping[str, int]
) -> Iterator[dict[str, int]]:
    """Yield sizes by symbol: all 1, a group raised, one symbol raised, and all distinct."""
    free = [symbol for symbol in axes if symbol not in known]
    yield {**dict.fromkeys(free, 1), **known}
    # Common sizes come first. The rows stay 1 as long as possible, because a model that runs on one
    # row may be batched.
    for sizes in (LADDER[:COMMON], LADDER[COMMON:]):
        for size, is_raised in itertools.product(sizes, WITHIN_ROWS):
            yield {symbol: size if is_raised(axes[symbol]) else 1 for symbol in free} | dict(known)
        for size, is_raised in itertools.product(sizes, WITH_ROWS):
            yield {symbol: size if is_raised(axes[symbol]) else 1 for symbol in free} | dict(known)
        for size, raised in itertools.product(sizes, free if len(free) <= MAX_ALONE else ()):
            yield {symbol: size if symbol == raised else 1 for symbol in free} | dict(known)
    distinct = itertools.cycle(DISTINCT)
    yield {symbol: next(distinct) for symbol in free} | dict(known)
