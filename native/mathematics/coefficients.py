"""Generator of `coefficients.h`: polynomials of the kernels, fitted with mpmath in 60 digits.

Each polynomial interpolates its function at Chebyshev points. Its error is within a factor of two
of the best polynomial of that degree; `fitted` checks the error.

    python native/mathematics/coefficients.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import mpmath as mp
import numpy as np

HEADER = Path(__file__).with_name("coefficients.h")
PREAMBLE = """\
// Written by coefficients.py, which documents and checks the error of each polynomial.
// clang-format off: one coefficient a line.
#pragma once

#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {
"""
CLOSE = """
}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
"""
NORMAL_CENTRE = 4
NORMAL_END = 60


def exponential(s: mp.mpf) -> mp.mpf:
    """``(e^s - 1 - s) / s²``."""
    if abs(s) < mp.mpf(10) ** -8:
        return mp.mpf(1) / 2 + s / 6 + s**2 / 24 + s**3 / 120
    return (mp.expm1(s) - s) / s**2


def sine(square: mp.mpf) -> mp.mpf:
    """``(sin(πr)/(πr) - 1) / r²``, for ``r² = square``."""
    if square < mp.mpf(10) ** -16:
        return -(mp.pi**2) / 6 + mp.pi**4 / 120 * square
    pi_r = mp.pi * mp.sqrt(square)
    return (mp.sin(pi_r) / pi_r - 1) / square


def sinc_slope(square: mp.mpf) -> mp.mpf:
    """``sinc'(x) / x``, for ``x² = square``."""
    if square < mp.mpf(10) ** -16:
        return -(mp.pi**2) / 3 + mp.pi**4 / 30 * square
    pi_x = mp.pi * mp.sqrt(square)
    return (mp.cos(pi_x) - mp.sin(pi_x) / pi_x) / square


def normal_tail(y: mp.mpf) -> mp.mpf:
    """``(t + c) e^(t²/2) Φ(-t)``, for ``y = (t - c) / (t + c)``."""
    t = NORMAL_CENTRE * (1 + y) / (1 - y)
    return (t + NORMAL_CENTRE) * mp.exp(t * t / 2) * mp.erfc(t / mp.sqrt(2)) / 2


def fitted(
    function: Callable[[mp.mpf], mp.mpf], low: mp.mpf, high: mp.mpf, count: int, bits: float
) -> list[mp.mpf]:
    """Return the ``count`` coefficients of ``x^0, x^1, …``, with an error below 2^-``bits``.

    Raises:
        ValueError: The error is larger at one of 501 points.
    """
    angles = [mp.pi * (k + mp.mpf(1) / 2) / count for k in range(count)]
    middle, half = (low + high) / 2, (high - low) / 2
    points = [middle + half * mp.cos(angle) for angle in angles]
    matrix = mp.matrix(count, count)
    for row, point in enumerate(points):
        for column in range(count):
            matrix[row, column] = point**column
    found = list(mp.lu_solve(matrix, mp.matrix([function(point) for point in points])))
    grid = [low + (high - low) * k / 500 for k in range(501)]
    worst = max(abs(mp.polyval(found[::-1], x) - function(x)) for x in grid)
    if worst >= mp.mpf(2) ** -bits:
        raise ValueError(f"{function.__name__} is missed by 2^{mp.nstr(mp.log(worst, 2), 4)}")
    return found


def constant(name: str, summary: str, number: mp.mpf) -> str:
    """Return the declaration of a number as an unevaluated sum of two floats."""
    kinds = "".join(
        f"template <>\nGATEWAVE_CONSTANT Pair<{kind}> {name}<{kind}> = "
        f"{{{literal(kind, number)}, {literal(kind, remainder(kind, number))}}};\n"
        for kind in ("float", "double")
    )
    return f"\n// {summary}\ntemplate <class T>\nGATEWAVE_CONSTANT Pair<T> {name} = {{}};\n{kinds}"


def array(kind: str, name: str, numbers: list[mp.mpf]) -> str:
    rows = "".join(f"    {literal(kind, number)},\n" for number in numbers)
    return f"template <>\nGATEWAVE_CONSTANT {kind} {name}<{kind}>[{len(numbers)}] = {{\n{rows}}};\n"


def literal(kind: str, number: mp.mpf) -> str:
    return f"{np.float32(float(number))!s}F" if kind == "float" else repr(float(number))


def remainder(kind: str, number: mp.mpf) -> mp.mpf:
    """Return the error of rounding ``number``."""
    near = np.float32(float(number)) if kind == "float" else float(number)
    return number - mp.mpf(float(near))


def declared(name: str, function: Callable[..., object]) -> str:
    summary = (function.__doc__ or "").replace("``", "").replace("\n", " ").strip()
    return f"\n// {summary}\ntemplate <class T>\nGATEWAVE_CONSTANT T {name}[1] = {{}};\n"


def text() -> str:
    half_ln2 = mp.log(2) / 2 * mp.mpf("1.001")
    quarter = mp.mpf(1) / 4
    parts = [PREAMBLE]
    fits = {
        "exponential_terms": (
            exponential,
            -half_ln2,
            half_ln2,
            {"float": (5, 23), "double": (11, 59)},
        ),
        "sine_terms": (sine, mp.mpf(0), quarter, {"float": (5, 31), "double": (9, 67)}),
        "sinc_slope_terms": (sinc_slope, mp.mpf(0), quarter, {"float": (6, 35), "double": (9, 62)}),
    }
    for name, (function, low, high, sizes) in fits.items():
        parts.append(declared(name, function))
        for kind, (count, bits) in sizes.items():
            parts.append(array(kind, name, fitted(function, low, high, count, bits)))
    end = mp.mpf(NORMAL_END - NORMAL_CENTRE) / (NORMAL_END + NORMAL_CENTRE)
    parts.append(declared("normal_terms", normal_tail))
    rests = [declared("normal_rests", lambda: None).replace("// \n", "// Their rounding errors.\n")]
    for kind, count, bits in (("float", 13, 31), ("double", 28, 63)):
        found = fitted(normal_tail, mp.mpf(-1), end, count, bits)
        parts.append(array(kind, "normal_terms", found))
        rests.append(array(kind, "normal_rests", [remainder(kind, number) for number in found]))
    slope = 2 * mp.sqrt(2 / mp.pi)
    constants = [
        constant("pi", "π.", +mp.pi),
        constant("density", "1/√(2π), the normal density at 0.", 1 / mp.sqrt(2 * mp.pi)),
        constant("gelu_linear", "2√(2/π), of the tanh form of GELU.", slope),
        constant("gelu_cubic", "0.044715 · 2√(2/π).", slope * mp.mpf("0.044715")),
    ]
    return "".join([*parts, *rests, *constants, CLOSE])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare the file")
    with mp.workdps(60):
        made = text()
    if parser.parse_args().check:
        raise SystemExit(made != HEADER.read_text(encoding="utf-8"))
    HEADER.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
