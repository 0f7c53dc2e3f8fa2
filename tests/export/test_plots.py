"""Plots of a record: reproducible."""

import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest
from torch import nn

from gatewave.export import plots
from gatewave.export.torch import custom
from gatewave.models import ACTIVATIONS


@pytest.mark.parametrize("kind", plots.KINDS)
@pytest.mark.parametrize("name", ["sinc", "swiglu"])
def test_two_drawings_are_the_same_bytes(name, kind):
    shown = ACTIVATIONS[name], ACTIVATIONS[name].operators[0]
    first, again = (plots.render(plots.draw(*shown), kind) for _ in range(2))
    assert first == again


def test_a_picture_has_a_panel_for_two_inputs_and_each_derivative(activation, operator):
    figure = plots.draw(activation, operator)
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    assert len(panels) == (1 if len(activation.inputs) == 1 else 3)
    assert panels[0].get_xlabel() == activation.inputs[0]


def test_curves_are_of_the_function_and_its_derivative_with_a_legend():
    sinc = ACTIVATIONS["sinc"]
    (axes,) = plots.draw(sinc, sinc.operators[0]).axes
    assert [line.get_label() for line in axes.lines] == ["y", r"$\partial y / \partial x$"]
    assert axes.get_legend() is not None
    assert axes.lines[0].get_xdata()[[0, -1]].tolist() == [-10, 10]


def test_titles_tell_the_choice():
    swiglu = ACTIVATIONS["swiglu"]
    titles = [plots.draw(swiglu, operator).get_suptitle() for operator in swiglu.operators]
    assert titles == ["SwiGLU (gate=sigmoid)", "SwiGLU (gate=linear)"]


def test_svg_is_xml_and_png_is_png():
    sinc = ACTIVATIONS["sinc"]
    figure = plots.draw(sinc, sinc.operators[0])
    assert ET.fromstring(plots.render(figure, "svg")).tag.endswith("svg")  # noqa: S314 - our own
    assert plots.render(figure, "png").startswith(b"\x89PNG")


def test_the_reader_s_own_style_changes_nothing():
    sinc = ACTIVATIONS["sinc"]
    plain = plots.render(plots.draw(sinc, sinc.operators[0]), "svg")
    with mpl.rc_context({"axes.facecolor": "black", "lines.linewidth": 9}):
        styled = plots.render(plots.draw(sinc, sinc.operators[0]), "svg")
    assert styled == plain


class OnlyTheFirst(nn.Module):
    """Function with a derivative for b that is 0 everywhere."""

    def forward(self, a, b):
        return a + 0 * b


def test_a_flat_derivative_can_be_drawn():
    activation = custom.activation_of(OnlyTheFirst)
    assert plots.render(plots.draw(activation, activation.operators[0]), "png")
