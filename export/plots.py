"""Pictures of an activation: the function and its derivatives, as SVG and PNG.

One input: curves. Two inputs: filled contours, one panel each for the value and the derivatives.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from matplotlib import style
from matplotlib.figure import Figure

from gatewave.export.errors import NotAnActivationError
from gatewave.graphs.ops import signature
from gatewave.models import Activation, Operator
from gatewave.models.torch.ops import FLOAT64

KINDS = ("svg", "png")
POINTS_OF_CURVE = 401
POINTS_OF_SIDE = 61
LEVELS = 15

STYLE: dict[str, Any] = {
    "svg.hashsalt": "gatewave",  # otherwise the ids in the file differ from run to run
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(activation: Activation, operator: Operator) -> Figure:
    """The figure of ``operator``, its real parameters at their defaults."""
    with style.context(["default", STYLE]):
        one_input = len(activation.inputs) == 1
        return _curves(activation, operator) if one_input else _contours(activation, operator)


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of a picture, without the date and the version that would change them."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with style.context(["default", STYLE]):
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    return buffer.getvalue()


def _curves(activation: Activation, operator: Operator) -> Figure:
    x = torch.linspace(*activation.plot_range, POINTS_OF_CURVE, dtype=torch.float64)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=activation.inputs[0], title=_title(activation, operator))
    for name, values in _values(activation, operator, [x]).items():
        axes.plot(x, values, label=_label(name), linestyle="-" if name == "y" else "--")
    axes.legend(frameon=False)
    return figure


def _contours(activation: Activation, operator: Operator) -> Figure:
    side = torch.linspace(*activation.plot_range, POINTS_OF_SIDE, dtype=torch.float64)
    first, second = torch.meshgrid(side, side, indexing="xy")
    results = _values(activation, operator, [first, second])
    figure = Figure(figsize=(4 * len(results), 3.6), layout="constrained")
    figure.suptitle(_title(activation, operator))
    for index, (name, values) in enumerate(results.items(), start=1):
        axes = figure.add_subplot(1, len(results), index, title=_label(name))
        axes.set(xlabel=activation.inputs[0], ylabel=activation.inputs[1])
        most = float(values.nan_to_num(0.0).abs().max()) or 1.0
        colours = axes.contourf(side, side, values, LEVELS, cmap="RdBu_r", vmin=-most, vmax=most)
        figure.colorbar(colours, ax=axes)
    return figure


def _values(
    activation: Activation, operator: Operator, inputs: list[torch.Tensor]
) -> dict[str, torch.Tensor]:
    reals = activation.defaults(operator)
    try:
        results = signature.function(operator, "grad")(FLOAT64, *inputs, **reals)
        names = signature.outputs(activation, "grad")
    except NotAnActivationError:  # a user's function without a derivative
        results = signature.function(operator, "value")(FLOAT64, *inputs, **reals)
        names = signature.outputs(activation, "value")
    return {n: r.detach().expand_as(inputs[0]) for n, r in zip(names, results, strict=True)}


def _label(name: str) -> str:
    if name == "y":
        return "y"
    return rf"$\partial y / \partial {name.removeprefix('dy_d')}$"


def _title(activation: Activation, operator: Operator) -> str:
    choice = ", ".join(f"{name}={word}" for name, word in operator.choice.items())
    return f"{activation.title} ({choice})" if choice else activation.title
