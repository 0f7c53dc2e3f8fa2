"""The vocabulary that formulas are written in.

Each function knows its derivative, its LaTeX, and, through `EXACT`, its value at any precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import mpmath
import sympy

a, b, x, alpha = sympy.symbols("a b x alpha", real=True)
"""The tensors ``a``, ``b``, ``x``, and the parameter α."""


class Sigma(sympy.Function):  # type: ignore[misc]  # SymPy has no types
    """The logistic function, ``1 / (1 + exp(-x))``."""

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        del argindex
        return self * Sigma(-self.args[0])

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        return _latex(r"\sigma", printer.doprint(self.args[0]), exp)


class Step(sympy.Function):  # type: ignore[misc]  # SymPy has no types
    """1 for positive arguments, otherwise 0."""

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        return _latex(r"\theta", printer.doprint(self.args[0]), exp)


class Relu(sympy.Function):  # type: ignore[misc]  # SymPy has no types
    """``max(0, x)``, with the derivative 0 at 0, as Torch has it."""

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        del argindex
        return Step(self.args[0])

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        return _latex(r"\max", f"0, {printer.doprint(self.args[0])}", exp)


def _latex(name: str, arguments: str, exponent: str | None) -> str:
    power = "" if exponent is None else f"^{{{exponent}}}"
    return rf"{name}{power}\left({arguments}\right)"


EXACT: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "Sigma": lambda z: 1 / (1 + mpmath.exp(-z)),
        "Relu": lambda z: max(mpmath.mpf(0), z),
        "Step": lambda z: mpmath.mpf(1 if z > 0 else 0),
    }
)
"""The value of each function above, for mpmath."""
