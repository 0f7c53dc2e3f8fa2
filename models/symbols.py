"""Formulas: the functions they are written with, and their translation to SymPy.

Each function knows its derivative, its LaTeX, and, through `EXACT`, its value at any precision.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import mpmath
import sympy
from sympy.core.function import AppliedUndef


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


VOCABULARY: Mapping[str, Any] = MappingProxyType({"sigmoid": Sigma, "relu": Relu})
"""The functions that formulas may call besides those of SymPy."""

EXACT: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "Sigma": lambda z: 1 / (1 + mpmath.exp(-z)),
        "Relu": lambda z: max(mpmath.mpf(0), z),
        "Step": lambda z: mpmath.mpf(1 if z > 0 else 0),
    }
)
"""The value of each function above, for mpmath."""


def parse(written: Any, names: tuple[str, ...]) -> sympy.Expr:
    """Translate a formula: text in SymPy's language with `VOCABULARY`, or an expression.

    Args:
        written: The formula.
        names: The names that stand for real numbers in it.

    Raises:
        ValueError: The formula is no expression, no number, or calls an unknown function.
    """
    symbols = {name: sympy.Symbol(name, real=True) for name in names}
    try:
        found = sympy.sympify(written, locals={**VOCABULARY, **symbols})
    except (sympy.SympifyError, TypeError, SyntaxError) as error:
        raise ValueError(f"{written!r} is not a SymPy expression: {error}") from error
    if not isinstance(found, sympy.Expr):
        raise ValueError(f"{written!r} is not a number")  # noqa: TRY004 - its content is wrong
    if unknown := found.atoms(AppliedUndef):
        raise ValueError(f"calls {unknown.pop().func}, which SymPy does not know")
    return found.subs({sympy.Symbol(name): symbol for name, symbol in symbols.items()})


parsed = functools.cache(parse)
"""Parse a formula of a record once: SymPy takes milliseconds."""


def undefined(name: str, names: tuple[str, ...]) -> sympy.Expr:
    """Return the formula of a function that has none: the function itself, of real numbers."""
    return sympy.Function(name)(*(sympy.Symbol(n, real=True) for n in names))


def is_undefined(formula: sympy.Expr) -> bool:
    """Return true for the formula of a function that has none: its decomposition defines it."""
    return bool(formula.has(AppliedUndef))
