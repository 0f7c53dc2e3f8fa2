"""Catalogue of the kinds of activations that recognition finds and `swap` exchanges.

A kind of one input has a formula, written with the ONNX operators of an abstract ``op``. The
formulas of records are their decompositions. A kind of two inputs is a product of two functions of
one input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gatewave.graphs.analysis.numpy_ops import NumpyOps
from gatewave.graphs.ops import formulas
from gatewave.graphs.recognition import curves
from gatewave.models import Operator
from gatewave.models.catalogue import OPERATORS

Formula = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Standard:
    """The ONNX operator for a kind.

    Attributes:
        op_type: Name of the operator in the default domain.
        opset: The first that has it.
        attributes: Attributes that distinguish the kind from others of the same operator.
    """

    op_type: str
    opset: int
    attributes: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """Description of an activation in graphs.

    Attributes:
        name: Name in reports and options.
        inputs: The tensors: one or two.
        formula: Function of ``(op, *inputs, **reals)``.
        reals: Its real parameters, with their defaults.
        standard: ONNX's operator for it, where there is one.
        operator: Ours, where there is one.
        parts: For a kind of two inputs, the kind applied to each; None for an unchanged input.
        cost: Approximate number of floating-point operations per element.
        numbers: Constants that the formula adds, by its keywords: where terms cancel, their
            rounding moves the result by more than a share of it.
        telling: Operators of which every spelling contains at least one; empty if not known.
        per_channel: True if it has a parameter for each channel, as PReLU does: with one for all
            it has another name.
        nan_is_open: True if spellings differ in their value at NaN, which is then not compared.
    """

    name: str
    formula: Formula
    inputs: tuple[str, ...] = ("x",)
    reals: Mapping[str, float] = field(default_factory=dict)
    standard: Standard | None = None
    operator: Operator | None = None
    parts: tuple[str | None, str | None] = (None, None)
    cost: int = 10
    numbers: Mapping[str, float] = field(default_factory=dict)
    telling: frozenset[str] = frozenset()
    per_channel: bool = False
    nan_is_open: bool = False


SELECTING = frozenset(
    {"Where", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "ThresholdedRelu", "Shrink"}
)
WAVES = frozenset({"Sin", "Cos"})
ROUNDED_WAVE = {"phase": 1.0, "gain": 1.0}


def _one(name: str, op_type: str | None, **rest: Any) -> Kind:
    """A kind of one input that is a record's, where ``op_type`` names one."""
    operator = None if op_type is None else OPERATORS[op_type][1]
    return Kind(name=name, operator=operator, **{"formula": operator and operator.value, **rest})


def _two(name: str, op_type: str, a: str | None, b: str | None, **rest: Any) -> Kind:
    _, operator = OPERATORS[op_type]
    return Kind(
        name=name,
        inputs=("a", "b"),
        formula=operator.value,
        operator=operator,
        parts=(a, b),
        **rest,
    )


# The order matters: the first kind that fits a value wins.
_ALL = (
    _two("swiglu-sigmoid", "SwiGLUSigmoid", "swish", "sigmoid", cost=16),
    _two(
        "swiglu-linear", "SwiGLULinear", "swish", None, reals={"alpha": 1.0},
        standard=Standard("SwiGLU", 28), cost=9,
    ),
    _two("geglu", "GeGLU", "gelu", None, cost=16),
    _two("geglu-tanh", "GeGLUTanh", "gelu-tanh", None, cost=16),
    _one("sinc", "Sinc", cost=14),
    _one("swish", "Swish", reals={"alpha": 1.0}, standard=Standard("Swish", 24), cost=8),
    _one("gelu", None, formula=formulas.gelu,
         standard=Standard("Gelu", 20, {"approximate": "none"}), cost=14),
    _one("gelu-tanh", None, formula=formulas.gelu_tanh,
         standard=Standard("Gelu", 20, {"approximate": "tanh"}), cost=14),
    _one("mish", None, formula=formulas.mish, standard=Standard("Mish", 18), cost=20),
    _one("hardswish", None, formula=formulas.hardswish, standard=Standard("HardSwish", 14), cost=5),
    _two("reglu", "ReGLU", "relu", None, cost=2),
    _two("glu", "GLU", None, "sigmoid", cost=8),
    _one("selu", None, formula=formulas.selu, standard=Standard("Selu", 6), cost=9),
    _one("elu", None, formula=formulas.elu, reals={"alpha": 1.0}, standard=Standard("Elu", 6),
         cost=8),
    _one("sigmoid", "Sigmoid", standard=Standard("Sigmoid", 6), cost=7),
    _one("tanh", None, formula=lambda op, x: op.Tanh(x), standard=Standard("Tanh", 6), cost=8),
    _one("softplus", None, formula=curves.softplus, standard=Standard("Softplus", 1), cost=10),
    _one("hardsigmoid", None, formula=formulas.hardsigmoid, reals={"alpha": 0.2, "beta": 0.5},
         standard=Standard("HardSigmoid", 6), cost=4),
    _one("relu6", None, formula=lambda op, x: curves.clipped(op, x, 0.0, 6.0), cost=2),
    _one("relu", None, formula=lambda op, x: op.Relu(x), standard=Standard("Relu", 6), cost=1),
    _one("leaky-relu", None, formula=formulas.leaky_relu, reals={"alpha": 0.01},
         standard=Standard("LeakyRelu", 6), cost=2),
    _one("prelu", None, formula=formulas.leaky_relu, reals={"alpha": 0.25}, per_channel=True,
         cost=2),
    _one("celu", None, formula=formulas.celu, reals={"alpha": 1.0}, standard=Standard("Celu", 12),
         telling=frozenset({"Celu", "Elu", "Exp"}), cost=9),
    _one("thresholded-relu", None, formula=formulas.thresholded_relu, reals={"alpha": 1.0},
         standard=Standard("ThresholdedRelu", 10), nan_is_open=True, telling=SELECTING, cost=2),
    _one("squared-relu", None, formula=curves.squared_relu, cost=2),
    _one("hardtanh", None, formula=lambda op, x: curves.clipped(op, x, -1.0, 1.0), cost=2),
    _one("softsign", None, formula=formulas.softsign, standard=Standard("Softsign", 1), cost=3),
    _one("log-sigmoid", None, formula=curves.log_sigmoid, cost=10),
    _one("tanhshrink", None, formula=lambda op, x: op.Sub(x, op.Tanh(x)), cost=9),
    _one("hardshrink", None, formula=curves.hardshrink, reals={"lambd": 0.5},
         nan_is_open=True, telling=SELECTING, cost=3),
    _one("softshrink", None, formula=curves.softshrink, reals={"lambd": 0.5},
         nan_is_open=True, telling=SELECTING | {"Relu", "Max", "Min", "Clip", "Sign"}, cost=4),
    _one("swoosh-l", None, formula=curves.swoosh_l, numbers={"offset": 0.035, "slope": 0.08},
         cost=13),
    _one("swoosh-r", None, formula=curves.swoosh_r, numbers={"offset": 0.313261687, "slope": 0.08},
         cost=13),
    _one("snake", None, formula=curves.snake, reals={"alpha": 1.0}, telling=WAVES,
         numbers=ROUNDED_WAVE, cost=14),
    _one("snake-beta", None, formula=curves.snake, reals={"alpha": 1.0, "beta": 0.5},
         telling=WAVES, numbers=ROUNDED_WAVE,
         cost=14),
    _one("lisht", None, formula=lambda op, x: op.Mul(x, op.Tanh(x)), cost=9),
    _one("tanh-exp", None, formula=curves.tanh_exp, cost=15),
    _one("logish", None, formula=curves.logish, cost=17),
    _one("smish", None, formula=curves.smish, cost=24),
    _one("serf", None, formula=curves.serf, cost=18),
)  # fmt: skip


NO_KINDS = frozenset({"Bilinear"})
"""Operators of records that are no kinds: ``a · b`` would be found in every product."""

_LINE = np.linspace(-12.7, 12.3, 41)
"""Points at which a record's product is compared: beyond 6, where ReLU6 leaves ReLU."""


def _derived() -> Iterator[Kind]:
    """Yield a kind for each operator of a record that `_ALL` does not name.

    A record may take the name of a kind that had no record. The kind then gets the operator.
    """
    by_name = {kind.name: kind for kind in _ALL}
    named = {kind.operator for kind in _ALL}
    for activation, operator in OPERATORS.values():
        if operator in named or operator.op_type in NO_KINDS:
            continue
        name, reals = activation.stem(operator), activation.defaults(operator)
        if name in by_name:
            yield replace(by_name[name], operator=operator, formula=operator.value, reals=reals)
        elif len(activation.inputs) == 1:
            yield _one(name, operator.op_type, reals=reals)
        else:
            yield _two(name, operator.op_type, *parts_of(operator, reals), reals=reals)


def parts_of(operator: Operator, reals: Mapping[str, float]) -> tuple[str | None, str | None]:
    """Return the kinds of the two factors of which ``operator`` is the product.

    Raises:
        NotImplementedError: It is not known to be such a product.
    """
    for first, a in _factors():
        for second, b in _factors():
            known = {} if first is None else first.reals
            if (first or second) and {*reals} <= {*known}:
                # A second value of each parameter: at 1, a parameter may have no effect.
                trials = [reals, {name: 1.25 * real for name, real in reals.items()}]
                if all(_is_product(operator, trial, a, b) for trial in trials):
                    return first.name if first else None, second.name if second else None
    raise NotImplementedError(
        f"the record of {operator.op_type} is not the product of two kinds: add a line to _ALL in "
        "graphs/recognition/kinds.py, with None for both parts to find it by its name alone"
    )


def _factors() -> Iterator[tuple[Kind | None, Formula]]:
    """Yield the kinds of one input and their formulas, and the input itself."""
    yield None, lambda _op, x, **_: x
    for kind in _ALL:
        if len(kind.inputs) == 1 and not kind.per_channel:
            yield kind, kind.formula


def _is_product(operator: Operator, reals: Mapping[str, float], a: Formula, b: Formula) -> bool:
    op, line = NumpyOps(), _LINE
    with np.errstate(all="ignore"):
        whole = operator.value(op, line[:, None], line[None, :], **reals)
        return np.allclose(whole, a(op, line, **reals)[:, None] * b(op, line), rtol=1e-9)


def _catalogue() -> Iterator[Kind]:
    # A product of two kinds also fits a unit of which one input is unchanged: swish(a) · tanh(b) is
    # a SwiGLU of a and tanh(b). The larger one must come first.
    derived = [*_derived()]
    yield from (kind for kind in derived if None not in kind.parts)
    yield from _ALL
    yield from (kind for kind in derived if None in kind.parts)


KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _catalogue()}
"""Kinds by name; the first wins if two fit one value."""

ALIASES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "silu": ("swish", {"alpha": 1.0}),
    "quick-gelu": ("swish", {"alpha": 1.702}),
    "swiglu": ("swiglu-linear", {"alpha": 1.0}),
}
"""Other common names, and the kinds that they mean."""


def called(name: str) -> tuple[Kind, Mapping[str, float]]:
    """The kind of that name or alias, and the real parameters that an alias stands for.

    Raises:
        ValueError: There is no such kind.
    """
    plain, reals = ALIASES.get(name, (name, {}))
    if plain not in KINDS:
        known = ", ".join(sorted({*KINDS, *ALIASES}))
        raise ValueError(f"no activation is called {name!r}: known are {known}")
    return KINDS[plain], reals
