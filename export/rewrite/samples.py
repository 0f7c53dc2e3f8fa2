"""Inputs to compare two models on: what a model may be given in earnest, and what tries its edges.

Each kind of case has its own range of values. Numbers that are not finite, and numbers so large
that a graph overflows, come in cases of their own: one NaN among the pixels of an image makes the
whole answer NaN, and would hide all else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from export.rewrite.channel import Array, Value
from export.rewrite.meanings import Meaning, meaning_of
from export.rewrite.ports import Port, inputs_of
from export.rewrite.sizes import Shapes

SPECIAL_SHARE = 0.25
LARGE = 30.0
SMALL_DEFAULT = 64
"""A default of more elements is a weight, and left alone."""

WORDS = ("", "a", "gate", "Wave", "été", "0", "-1.5", "two words")

Source = np.random.Generator
Draw = Callable[[Source, tuple[int, ...], Any], Array]


@dataclass(frozen=True)
class Kind:
    """A range of values.

    Attributes:
        name: For people.
        draw: Floats, as float64, given the limits of their type.
        integers: The range of integers that mean nothing that is known.
        extreme: Whether the original may overflow on them, or be given infinities.
    """

    name: str
    draw: Draw
    integers: tuple[int, int] = (0, 5)
    extreme: bool = False


@dataclass(frozen=True)
class Case:
    """Inputs, under a name that says what they are.

    Attributes:
        extreme: See `Kind`.
    """

    name: str
    inputs: Mapping[str, Value]
    extreme: bool = False


def _normal(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.standard_normal(shape)


def _unit(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.random(shape)


def _bytes(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.integers(0, 256, shape).astype(np.float64)


def _large(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.standard_normal(shape) * LARGE


def _among(special: Callable[[Any, Source, int], Array]) -> Draw:
    """Normal numbers, a quarter of them replaced by special ones; one at least."""

    def draw(source: Source, shape: tuple[int, ...], limits: Any) -> Array:
        numbers = source.standard_normal(shape)
        chosen = source.random(shape) < SPECIAL_SHARE
        if numbers.size and not chosen.any():
            chosen.flat[source.integers(numbers.size)] = True
        numbers[chosen] = special(limits, source, int(chosen.sum()))
        return numbers

    return draw


def _signed(source: Source, numbers: Array) -> Array:
    return np.where(source.random(numbers.shape) < 0.5, numbers, -numbers)  # noqa: PLR2004


def _tiny(limits: Any, source: Source, count: int) -> Array:
    """±0, subnormal numbers, and all magnitudes up to 1."""
    least, normal = float(limits.smallest_subnormal), float(limits.smallest_normal)
    fixed = source.choice([0.0, least, 3 * least, normal / 2, normal, 1.0], count)
    spread = normal ** source.random(count)
    return _signed(source, np.where(source.random(count) < 0.5, fixed, spread))  # noqa: PLR2004


def _huge(limits: Any, source: Source, count: int) -> Array:
    """Magnitudes from 1 to the greatest number."""
    greatest = float(limits.max)
    fixed = source.choice([greatest, greatest / 2, greatest**0.5, 1e4, 100.0], count)
    spread = greatest ** source.random(count)
    return _signed(source, np.where(source.random(count) < 0.5, fixed, spread))  # noqa: PLR2004


def _infinite(_: Any, source: Source, count: int) -> Array:
    return _signed(source, np.full(count, np.inf))


def _nan(_: Any, __: Source, count: int) -> Array:
    return np.full(count, np.nan)


NORMAL = Kind("normal", _normal)
KINDS = (
    Kind("0 to 1", _unit, (0, 2)),
    Kind("0 to 255", _bytes, (0, 256), extreme=True),
    Kind("large", _large, (-100, 101), extreme=True),
    Kind("zeros and subnormals", _among(_tiny), (-1, 2)),
    Kind("huge", _among(_huge), (-(2**62), 2**62), extreme=True),
    Kind("infinities", _among(_infinite), extreme=True),
    Kind("NaN", _among(_nan)),
)
"""After `NORMAL`, which every shape is tried with; in this order, as time may run out."""


class Samples:
    """Draws the inputs of one model, the same ones for the same seed."""

    def __init__(self, model: ir.Model, seed: int) -> None:
        self.seed = seed
        self.inputs = inputs_of(model)
        named = {value.name: value for value in model.graph.inputs}
        self.meanings = {
            port.name: meaning_of(named[port.name], model)
            for port in self.inputs
            if port.dtype.startswith(("int", "uint"))
        }

    def case(self, words: str, shapes: Shapes, kind: Kind, *, given: bool = False) -> Case:
        """A case of ``kind``; ``given`` says to give also what has a default, and to omit options.

        The defaults are varied, by a half of them at most, or of one.
        """
        name = ", ".join(filter(None, (kind.name, words, "defaults replaced" if given else "")))
        source = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        inputs = {
            port.name: self._value(port, shapes, kind, source, given=given)
            for port in self.inputs
            if given or port.default is None
        }
        return Case(name, inputs, kind.extreme)

    def can_replace(self) -> bool:
        """Whether there is a default to replace, or an option to leave empty."""
        return any(
            port.wrapped == "optional" or _is_replaceable(port.default) for port in self.inputs
        )

    def _value(
        self, port: Port, shapes: Shapes, kind: Kind, source: Source, *, given: bool
    ) -> Value:
        if port.default is not None:
            return _varied(port.default, source)
        if port.wrapped == "optional" and given:
            return None
        if port.wrapped == "sequence":
            return [self._tensor(port, shapes, kind, source) for _ in range(2)]
        return self._tensor(port, shapes, kind, source)

    def _tensor(self, port: Port, shapes: Shapes, kind: Kind, source: Source) -> Array:
        shape = shapes[port.name]
        if port.dtype == "string":
            return source.choice(np.array(WORDS, object), shape)
        if port.dtype == "bool":
            return source.random(shape) < 0.5  # noqa: PLR2004
        if port.name in self.meanings:
            lengths = [size for other in shapes.values() for size in other if size]
            numbers = _integers(
                self.meanings[port.name], kind, _integer_limits(port.dtype), min(lengths, default=1)
            )
            return np.asarray(numbers(source, shape)).astype(port.dtype)
        return _floats(port.dtype, kind, source, shape)


def _floats(dtype: str, kind: Kind, source: Source, shape: tuple[int, ...]) -> Array:
    if dtype.startswith("complex"):
        part = "float64" if dtype == "complex128" else "float32"
        real, imaginary = (_floats(part, kind, source, shape) for _ in range(2))
        return np.asarray(real + 1j * imaginary).astype(dtype)
    limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    with np.errstate(over="ignore"):
        return np.asarray(kind.draw(source, shape, limits)).astype(dtype)


def _integer_limits(dtype: str) -> tuple[int, int]:
    limits = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(limits.min), int(limits.max)


def _integers(
    meaning: Meaning, kind: Kind, limits: tuple[int, int], length: int
) -> Callable[[Source, tuple[int, ...]], Array]:
    """What draws integers that a model with this ``meaning`` takes."""
    if meaning.choices and meaning.bound is None:
        choices = sorted(meaning.choices)
        return lambda source, shape: source.choice(np.array(choices, np.int64), shape)
    low, high = kind.integers
    if meaning.bound is not None:
        low, high = 0, meaning.bound
    elif meaning.length or meaning.count:
        low, high = 1, 1 + (length if meaning.length else 2)
    low, high = max(low, limits[0]), min(high, limits[1] + 1)
    return lambda source, shape: source.integers(low, max(high, low + 1), shape)


def _is_replaceable(default: Array | None) -> bool:
    return default is not None and default.size <= SMALL_DEFAULT and default.dtype.kind == "f"


def _varied(default: Array, source: Source) -> Array:
    if not _is_replaceable(default):
        return default
    scale = np.where(default == 0, 1.0, default)
    return np.asarray(default + scale * source.uniform(-0.5, 0.5, default.shape)).astype(
        default.dtype
    )


def from_file(arrays: Mapping[str, Array], inputs: Sequence[Port]) -> tuple[Case, list[str]]:
    """A case of the caller's own arrays; and what is wrong with them, in words."""
    known = {port.name for port in inputs}
    needed = {port.name for port in inputs if port.default is None and port.wrapped != "optional"}
    wrong = [f"the model has no input {name}" for name in sorted(arrays.keys() - known)]
    wrong += [f"input {name} is missing" for name in sorted(needed - arrays.keys())]
    return Case("the inputs given", dict(arrays)), wrong
