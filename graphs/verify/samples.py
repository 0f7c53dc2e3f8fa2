"""Generated inputs of a model: ordinary numbers, and numbers at the edges of its range."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from gatewave.graphs.errors import ModelError
from gatewave.graphs.processes.messages import Array, Value
from gatewave.graphs.verify.input_roles import InputMeaning, meaning_of
from gatewave.graphs.verify.input_shapes import InputShapes
from gatewave.graphs.verify.ports import Port, inputs_of
from gatewave.graphs.verify.report import GIVEN
from gatewave.graphs.verify.tensor_difference import is_float
from gatewave.graphs.verify.thresholds import SMALL_DEFAULT
from gatewave.graphs.verify.value_ranges import THRESHOLDS, VALUE_RANGES, Source, ValueRange

Replaced = Literal["defaults replaced", "defaults replaced, of the other sign"]
REPLACED: Replaced = "defaults replaced"
OPPOSED: Replaced = "defaults replaced, of the other sign"

WORDS = ("", "a", "gate", "Wave", "été", "0", "-1.5", "two words")


@dataclass(frozen=True)
class Case:
    """Inputs of one run, with a descriptive name.

    Attributes:
        extreme: See `ValueRange`.
        thresholds: See `ValueRange`: a step of such an input changes the result.
    """

    name: str
    inputs: Mapping[str, Value]
    extreme: bool = False
    thresholds: bool = False


def name_of(words: str, kind: ValueRange, given: Replaced | None = None) -> str:
    """Return the name of a case of ``kind`` whose sizes are ``words``."""
    return ", ".join(filter(None, (kind.name, words, given)))


class Samples:
    """Generator of the inputs of one model; a seed always gives the same inputs.

    Args:
        model: The model.
        seed: Seed of the generator.
        rewritten: A model that should do the same: its thresholds are tried as well.
    """

    def __init__(self, model: ir.Model, seed: int, rewritten: ir.Model | None = None) -> None:
        self.seed = seed
        self.inputs = inputs_of(model)
        self.meanings = {value.name: meaning_of(value, model) for value in model.graph.inputs}
        for value in () if rewritten is None else rewritten.graph.inputs:
            if value.name in self.meanings:
                found = meaning_of(value, rewritten).thresholds  # type: ignore[arg-type]
                self.meanings[value.name].thresholds |= found

    def case(
        self, words: str, shapes: InputShapes, kind: ValueRange, *, given: Replaced | None = None
    ) -> Case:
        """Draw a case.

        Args:
            words: Description of the sizes.
            shapes: Shape of each input.
            kind: Range of the numbers.
            given: If set, inputs with a default are given a number that differs from it by at most
                a half, and optional inputs are omitted. `OPPOSED` also changes the sign of single
                numbers, which shows a rewrite that has taken the magnitude of an α.
        """
        name = name_of(words, kind, given)
        source = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        inputs = {
            port.name: self._value(port, shapes, kind, source, given=given)
            for port in self.inputs
            if given or port.default is None
        }
        return Case(name, inputs, kind.extreme, kind.thresholds)

    def can_draw(self) -> bool:
        """Return true if all inputs are of types that can be generated."""
        return all(port.dtype != "unknown" for port in self.inputs)

    def kinds(self) -> list[ValueRange]:
        """Return all ranges but `NORMAL`; `THRESHOLDS` only if an input is compared."""
        compared = any(self.meanings[port.name].thresholds for port in self.inputs)
        return [*VALUE_RANGES, *([THRESHOLDS] if compared else [])]

    def can_replace(self) -> bool:
        """Return true if there is a default to replace or an optional input to omit."""
        return any(
            port.wrapped == "optional" or _is_replaceable(port.default) for port in self.inputs
        )

    def has_signs(self) -> bool:
        """Return true if a default is a single number, which may have the other sign."""
        return any(_has_sign(port.default) for port in self.inputs)

    def _value(
        self,
        port: Port,
        shapes: InputShapes,
        kind: ValueRange,
        source: Source,
        *,
        given: Replaced | None,
    ) -> Value:
        if port.default is not None:
            varied = _varied(port.default, source)
            return -varied if given == OPPOSED and _has_sign(port.default) else varied
        if port.wrapped == "optional" and given:
            return None
        if port.wrapped == "sequence":
            return [self._tensor(port, shapes, kind, source) for _ in range(2)]
        return self._tensor(port, shapes, kind, source)

    def _tensor(self, port: Port, shapes: InputShapes, kind: ValueRange, source: Source) -> Array:
        if port.dtype == "unknown":
            raise ModelError(f"input {port.name}: inputs of its type cannot be generated")
        shape = shapes[port.name]
        if port.dtype == "string":
            return source.choice(np.array(WORDS, object), shape)
        if port.dtype == "bool":
            return source.random(shape) < 0.5  # noqa: PLR2004
        if port.dtype.startswith(("int", "uint")):
            lengths = [size for other in shapes.values() for size in other if size]
            numbers = _integers(
                self.meanings[port.name], kind, _integer_limits(port.dtype), min(lengths, default=1)
            )
            drawn = np.asarray(numbers(source, shape)).astype(port.dtype)
        else:
            drawn = _floats(port.dtype, kind, source, shape)
        meaning = self.meanings[port.name]
        return _with_thresholds(drawn, meaning, kind, source) if meaning.is_free else drawn


def _floats(dtype: str, kind: ValueRange, source: Source, shape: tuple[int, ...]) -> Array:
    if dtype.startswith("complex"):
        part = "float64" if dtype == "complex128" else "float32"
        real, imaginary = (_floats(part, kind, source, shape) for _ in range(2))
        return np.asarray(real + 1j * imaginary).astype(dtype)
    limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    with np.errstate(over="ignore"):
        return np.asarray(kind.draw(source, shape, limits)).astype(dtype)


def _with_thresholds(
    drawn: Array, meaning: InputMeaning, kind: ValueRange, source: Source
) -> Array:
    """Replace half of ``drawn`` by thresholds or by limits of the type, as ``kind`` asks."""
    special, count = np.array([]), (drawn.size + 1) // 2
    if kind.thresholds and meaning.thresholds:
        special = _beside(sorted(meaning.thresholds), drawn)
    elif kind.limits and _is_whole(drawn):
        special = np.array(_integer_limits(drawn.dtype.name))
    if special.size and count:
        places = source.choice(drawn.size, count, replace=False, shuffle=False)
        drawn.flat[places] = np.resize(source.permutation(special), count)
    return drawn


def _is_whole(numbers: Array) -> bool:
    return "int" in numbers.dtype.name


def _beside(thresholds: Sequence[float], numbers: Array) -> Array:
    """Return the thresholds in the type of ``numbers``, and their neighbours."""
    dtype = numbers.dtype
    if is_float(numbers):
        up, down = (np.asarray(end, dtype) for end in (np.inf, -np.inf))
        with np.errstate(all="ignore"):
            exact = np.array(thresholds).astype(dtype)
            near = np.concatenate([exact, np.nextafter(exact, up), np.nextafter(exact, down)])
        return np.asarray(near[np.isfinite(near)])
    if not _is_whole(numbers):
        return np.array([])
    least, greatest = _integer_limits(dtype.name)
    whole = {math.floor(t) + step for t in thresholds if math.isfinite(t) for step in (-1, 0, 1)}
    return np.array([number for number in sorted(whole) if least <= number <= greatest])


def _integer_limits(dtype: str) -> tuple[int, int]:
    limits = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(limits.min), int(limits.max)


def _integers(
    meaning: InputMeaning, kind: ValueRange, limits: tuple[int, int], length: int
) -> Callable[[Source, tuple[int, ...]], Array]:
    """Return a function that draws integers valid for an input with this ``meaning``."""
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


def _has_sign(default: Array | None) -> bool:
    return default is not None and _is_replaceable(default) and default.size == 1


def _varied(default: Array, source: Source) -> Array:
    if not _is_replaceable(default):
        return default
    scale = np.where(default == 0, 1.0, default)
    return np.asarray(default + scale * source.uniform(-0.5, 0.5, default.shape)).astype(
        default.dtype
    )


def from_file(arrays: Mapping[str, Array], inputs: Sequence[Port]) -> tuple[Case, list[str]]:
    """Return a case of the caller's own arrays, and their faults in words."""
    known = {port.name for port in inputs}
    needed = {port.name for port in inputs if port.default is None and port.wrapped != "optional"}
    wrong = [f"the model has no input {name}" for name in sorted(arrays.keys() - known)]
    wrong += [f"input {name} is missing" for name in sorted(needed - arrays.keys())]
    return Case(GIVEN, dict(arrays)), wrong


def nudged(case: Case, source: Source | None = None) -> Case:
    """Return the case with each float replaced by a neighbour: the upper one, or as drawn."""
    moved = {name: _next(value, source) for name, value in case.inputs.items()}
    return replace(case, inputs=moved)


def _next(value: Value, source: Source | None) -> Value:
    if isinstance(value, list):
        return [_next(item, source) for item in value]
    if value is None or not is_float(value):
        return value
    up = True if source is None else source.random(value.shape) < 0.5  # noqa: PLR2004
    with np.errstate(all="ignore"):
        moved = np.nextafter(value, np.where(up, np.inf, -np.inf).astype(value.dtype))
    return np.where(np.isfinite(moved), moved, value).astype(value.dtype)
