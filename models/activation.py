"""Record of an activation, immutable; every other part of the project is derived from it.

An `Activation` is what a caller names ("swiglu"). It holds one `Operator` for each formula that the
name can mean: most have one, `swiglu` has two, told apart by its parameter `gate`.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:  # commands that only need the records start without these
    import sympy
    from torch import Tensor, nn

DType = Literal["float16", "bfloat16", "float32", "float64"]
DTYPES: tuple[DType, ...] = get_args(DType)

FLOAT32_BITS, FLOAT64_BITS = 24, 53
"""Significant bits of the two types that decompositions compute in."""

Decomposition = Callable[..., Any]
"""A function of ``(op, *inputs, **parameters)``, written with the ONNX operators of ``op``.

``op`` may draw an ONNX graph or compute with Torch. Its operators take tensors and Python numbers
alike; ``op.precision_bits`` is the precision of the computation: `FLOAT32_BITS` or `FLOAT64_BITS`.
"""

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Pattern of the names of activations, which are used in URLs and file names."""

CONSTANTS = frozenset({"E", "pi"})
"""Names in formulas that are numbers of SymPy's."""

RESERVED = re.compile(r"y|dy_d.*|grad_.*")
"""Pattern of the names of outputs and gradients, which no input may have."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest error allowed: ``ulp`` units in the last place, or ``atol``, whichever is more.

    Attributes:
        ulp: In units in the last place of the output dtype at the exact result; a correctly rounded
            result is within 0.5.
        atol: Absolute, for where the function is near zero; it is multiplied by ``max(1, |x|)`` of
            each input ``x`` that the record's ``scale`` names, of each real parameter, and of the
            gradient that a vector-Jacobian product is given.
    """

    ulp: float
    atol: float


@dataclass(frozen=True, slots=True)
class Parameter:
    """Parameter of an activation, besides its tensors.

    Attributes:
        name: Name for callers and in formulas.
        default: Its value if a caller does not set it.
        description: One sentence, for people.
        choices: The words it may be. Empty for a real number.
    """

    name: str
    default: str | float
    description: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """One elementwise function, described well enough to export, serve, plot and test it unseen.

    Attributes:
        op_type: The ONNX operator of our domain, e.g. ``"SwiGLULinear"``.
        formula: Definition in the symbols of its inputs and real parameters: text in SymPy's
            language with `symbols.VOCABULARY`, or an expression. LaTeX, exact values and exact
            derivatives all follow from it.
        value: The function in standard ONNX operators. Its arguments are the inputs and the real
            parameters, by their names.
        partials: Its partial derivatives, one per input, likewise.
        tolerances: The error allowed in the value, per dtype.
        derivative_tolerances: The error allowed in each partial derivative, per dtype.
        scale: The inputs that the absolute error grows with.
        reals: The real parameters that this function takes.
        choice: The words that select this function among its activation's, e.g. ``gate: linear``.
        module: The class of the Torch module, or its path, ``package.module:Class``; its arguments
            are the choice and the real parameters. Without one the class is derived: it computes
            ``value``, and autograd differentiates that.
    """

    op_type: str
    formula: str | sympy.Expr
    value: Decomposition
    partials: Decomposition
    tolerances: Mapping[DType, Tolerance]
    derivative_tolerances: Mapping[DType, Tolerance]
    scale: tuple[str, ...] = ()
    reals: tuple[str, ...] = ()
    choice: Mapping[str, str] = field(default_factory=dict)
    module: type[nn.Module] | str | None = None

    def __post_init__(self) -> None:
        """Make the mappings immutable, as the other attributes are."""
        _freeze(self, "tolerances", "derivative_tolerances", "choice")

    @property
    def class_name(self) -> str:
        """The name of the Torch module's class."""
        if isinstance(self.module, str):
            return self.module.rpartition(":")[2]
        return self.op_type if self.module is None else self.module.__name__

    @cached_property
    def module_class(self) -> type[nn.Module]:
        """The class of the Torch module, imported or derived when it is first asked for."""
        from gatewave.models.torch import modules  # noqa: PLC0415 - Torch takes seconds to import

        return modules.class_of(self)

    def build(self, **reals: float) -> nn.Module:
        """Make the Torch module, with the given real parameters or their defaults."""
        return self.module_class(**self.choice, **reals)

    def matches(self, module: nn.Module) -> bool:
        """Return true if ``module`` computes this very function."""
        return type(module) is self.module_class and all(
            getattr(module, name) == word for name, word in self.choice.items()
        )

    def derivative(self, *inputs: Tensor, **parameters: float) -> tuple[Tensor, ...]:
        """Compute the explicit partial derivatives, one per input, in its shape and dtype."""
        from gatewave.models.torch import modules  # noqa: PLC0415 - Torch takes seconds to import

        return modules.derivative(self, *inputs, **parameters)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activation:
    """An activation function, as callers name it.

    Attributes:
        name: The identifier in URLs, files and metadata: lower-case, e.g. ``"swiglu"``.
        title: The name as people write it.
        summary: Description in one sentence.
        inputs: The names of its tensors, in order; all have one shape and dtype.
        operators: One function for each choice, the default first.
        parameters: Parameters that a caller may set besides the tensors.
        source: Origin of the formula.
        example: Input values worth trying, all of one length.
        plot_range: Range of the plot, ``(low, high)``.
        properties: Mathematical properties.
        uses: Typical uses.
        limits: Known pitfalls.
        domain: Range of every input in which the tolerances hold; infinities and NaN belong to it
            only if it is unbounded.
    """

    name: str
    title: str
    summary: str
    inputs: tuple[str, ...]
    operators: tuple[Operator, ...]
    source: str
    example: Mapping[str, tuple[float, ...]]
    plot_range: tuple[float, float]
    properties: tuple[str, ...]
    uses: tuple[str, ...]
    limits: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    domain: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        """Reject a contradictory record, and make its mappings immutable.

        Raises:
            ValueError: A name is invalid, used twice or unknown; a dtype has no tolerance; the
                operators are not exactly the combinations of the choices, the default first; the
                example is not one of the inputs; or a decomposition has other arguments.
        """
        _freeze(self, "example")
        for problem in itertools.chain(
            self._problems(), *(self._problems_of(operator) for operator in self.operators)
        ):
            raise ValueError(f"{self.name}: {problem}")

    def _problems(self) -> Iterator[str]:
        names = (*self.inputs, *(p.name for p in self.parameters))
        if not NAME.fullmatch(self.name):
            yield f"its name must be lower-case letters, digits and _, as in {NAME.pattern}"
        if taken := [name for name in names if RESERVED.fullmatch(name) or names.count(name) > 1]:
            yield f"the name {taken[0]} is taken: by another, or by an output ({RESERVED.pattern})"
        if [dict(operator.choice) for operator in self.operators] != self._combinations():
            yield f"its operators must be, in order, those for {self._combinations()}"
        if tuple(self.example) != self.inputs or len({*map(len, self.example.values())}) > 1:
            yield f"its example must give {', '.join(self.inputs)}, equally many values of each"

    def _problems_of(self, operator: Operator) -> Iterator[str]:
        names = (*self.inputs, *operator.reals)
        if unknown := {*operator.reals} - {p.name for p in self.parameters if not p.choices}:
            yield f"{operator.op_type} takes {sorted(unknown)}, which are no real parameters"
            return
        if unknown := {*operator.scale} - {*self.inputs}:
            yield f"{operator.op_type} scales with {sorted(unknown)}, which are no inputs"
        try:
            others = _unknown(operator.formula, {*names})
        except SyntaxError as error:
            yield f"the formula of {operator.op_type} is no expression: {error.msg}"
            return
        if others:
            yield (
                f"the formula of {operator.op_type} has {{{', '.join(sorted(others))}}}: its real "
                f"symbols are {{{', '.join(names)}}}"
            )
        for decomposition in (operator.value, operator.partials):
            taken = arguments_of(decomposition)
            if taken is not None and taken != self._arguments(operator):
                yield (
                    f"{decomposition.__name__} of {operator.op_type} must take (op, "
                    f"{', '.join(names)}), real parameters with their defaults, not {taken}"
                )
        if {*operator.tolerances} != {*DTYPES} or {*operator.derivative_tolerances} != {*DTYPES}:
            yield f"{operator.op_type} must have tolerances for {', '.join(DTYPES)}"

    def _arguments(self, operator: Operator) -> dict[str, float | None]:
        """The arguments of the decompositions of ``operator`` after ``op``, with their defaults."""
        return {**dict.fromkeys(self.inputs), **self.defaults(operator)}

    def _combinations(self) -> list[dict[str, str]]:
        """Every combination of the choices, the defaults first: one for each operator."""
        words = {
            p.name: dict.fromkeys((str(p.default), *p.choices))
            for p in self.parameters
            if p.choices
        }
        return [
            dict(zip(words, values, strict=True)) for values in itertools.product(*words.values())
        ]

    def stem(self, operator: Operator) -> str:
        """Return the stem of ``operator``'s file names: ``sinc``, ``swiglu-linear``."""
        return "-".join([self.name, *operator.choice.values()])

    def expression(self, operator: Operator) -> sympy.Expr:
        """Return the formula of ``operator`` as an expression of SymPy.

        Raises:
            ValueError: The formula is no expression, or calls an unknown function.
        """
        if not isinstance(operator.formula, str):
            return operator.formula
        from gatewave.models import symbols  # noqa: PLC0415 - SymPy takes a second to import

        return symbols.parsed(operator.formula, (*self.inputs, *operator.reals))

    def defaults(self, operator: Operator) -> dict[str, float]:
        """The real parameters of ``operator``, at their defaults."""
        return {p.name: float(p.default) for p in self.parameters if p.name in operator.reals}


def arguments_of(decomposition: Decomposition) -> dict[str, float | None] | None:
    """Return the arguments after ``op``, with their defaults; None if it takes any."""
    parameters = list(inspect.signature(decomposition).parameters.values())[1:]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def _unknown(formula: str | sympy.Expr, names: set[str]) -> set[str]:
    """Return the variables of a formula that are none of ``names``, or not real.

    Text is not evaluated, since that would import SymPy.
    """
    if not isinstance(formula, str):
        symbols = formula.free_symbols
        return {s.name for s in symbols if not s.is_real or s.name not in names}
    nodes = list(ast.walk(ast.parse(formula, mode="eval")))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    found = {n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in called}
    return found - CONSTANTS - names


def _freeze(record: Operator | Activation, *names: str) -> None:
    for name in names:
        object.__setattr__(record, name, MappingProxyType(dict(getattr(record, name))))
