"""User functions in the other forms of Torch: exports, kinks and failures."""

import functools
import sys
import types

import pytest
import torch
from torch import nn

from gatewave.export.accuracy import certify, reference
from gatewave.export.artifacts import Selection, write
from gatewave.export.errors import NotAnActivationError
from gatewave.export.operators import graphs_of, to_bytes
from gatewave.export.torch import custom
from gatewave.models.torch.ops import FLOAT64


def sharp(a, b, slope=3.0):
    """Compute a function with an option, without a module."""
    return a * torch.sigmoid(slope * b)


class Straight(torch.autograd.Function):
    """Rounding with the derivative of the identity."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.round(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.ones_like(x)


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        del ctx
        return torch.round(x)


class LearntGate(nn.Module):
    """Gate with a trained slope."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1.5))

    def forward(self, a, b):
        return a * torch.sigmoid(self.slope * b)


def program():
    example = (torch.zeros(2, 3), torch.zeros(2, 3))
    return torch.export.export(LearntGate().eval(), example)


@pytest.fixture
def named(monkeypatch):
    """Return a function that makes an object available to `load` by name."""
    module = types.ModuleType("theirs")
    monkeypatch.setitem(sys.modules, "theirs", module)

    def name(value):
        module.thing = value
        return custom.load("theirs:thing")

    return name


OTHER_FORMS = {
    "function": lambda: (sharp, sharp),
    "partial": lambda: (functools.partial(sharp, slope=0.5), functools.partial(sharp, slope=0.5)),
    "built-in": lambda: (torch.logaddexp, torch.logaddexp),
    "module": lambda: (nn.PReLU(init=0.3), nn.PReLU(init=0.3).double()),
    "program": lambda: (program(), LearntGate().double()),
    "program's module": lambda: (program().module(), LearntGate().double()),
    "autograd.Function": lambda: (Straight, torch.round),
}
"""Makers of an object and of a function that computes the same: a program takes seconds to make."""


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_what_is_no_class_is_an_activation_too(form, named):
    found, function = OTHER_FORMS[form]()
    activation = named(found)
    assert activation.name == "thing"
    tensors = [torch.linspace(-4, 4, 23, dtype=torch.float64) for _ in activation.inputs]
    got = activation.operators[0].value(FLOAT64, *tensors)
    torch.testing.assert_close(got, function(*tensors))


@pytest.mark.parametrize("form", ["built-in", "program", "autograd.Function"])
def test_what_is_no_class_is_certified_with_its_derivatives(form, named):
    activation = named(OTHER_FORMS[form]()[0])
    (operator,) = activation.operators
    models = graphs_of(activation, operator, ["float64"], ["grad"])
    model = to_bytes(models["grad", "float64"])
    certify.certify(model, activation, operator, "grad", "float64")


def test_the_backward_of_an_autograd_function_is_its_derivative(named):
    activation = named(Straight)
    (slopes,) = activation.operators[0].derivative(torch.tensor([0.2, 0.5, 3.0]))
    assert slopes.tolist() == [1, 1, 1]


def test_a_program_is_read_from_its_file(tmp_path):
    torch.export.save(program(), tmp_path / "learnt-gate.pt2")
    activation = custom.load(str(tmp_path / "learnt-gate.pt2"))
    assert activation.name == "learnt_gate"
    assert activation.inputs == ("a", "b")
    (tmp_path / "other.pt2").write_bytes(b"no program")
    with pytest.raises(NotAnActivationError, match=r"other\.pt2"):
        custom.load(str(tmp_path / "other.pt2"))


def test_without_a_derivative_the_value_is_written_and_the_rest_named(named, tmp_path):
    failures = []
    selection = Selection(dtypes=("float32",), graphs=("value", "grad"), forms=("function",))
    paths = write([named(NoWayBack)], tmp_path, selection, failed=failures.append)
    assert [path.name for path in paths] == ["thing.value.float32.onnx", "thing.svg", "thing.png"]
    (failure,) = failures
    assert (failure.graph, failure.dtype) == ("grad", "float32")
    assert "backward" in failure.reason


class Atan(nn.Module):
    """Arctangent; ONNX Runtime has the operator for float32 only."""

    def forward(self, x):
        return torch.atan(x)


def test_files_of_graphs_that_fail_now_are_removed(tmp_path):
    stale = tmp_path / "atan.value.float64.decomposed.onnx"
    stale.touch()
    failures = []
    selection = Selection(dtypes=("float32", "float64"), graphs=("value",), forms=("function",))
    write([custom.activation_of(Atan)], tmp_path, selection, failed=failures.append)
    assert not stale.exists()
    assert (tmp_path / "atan.value.float32.onnx").exists()
    assert [(f.stem, f.graph, f.dtype) for f in failures] == [("atan", "value", "float64")]


class Stairs(nn.Module):
    """Kinks at 0.3, which is not exact in any dtype, at 1, and at -2."""

    def forward(self, x):
        return torch.where(x > 0.3, 2 * x, x).clamp(-2, 2)


def test_kinks_are_found_and_the_slope_there_is_autograd_s():
    activation = custom.activation_of(Stairs)
    kinks = reference.kinks(activation, activation.operators[0])
    assert [(kink.x, kink.left, kink.slope, kink.right) for kink in kinks] == [
        (-2.0, 0.0, 1.0, 1.0),
        (0.3, 1.0, 1.0, 2.0),
        (1.0, 2.0, 2.0, 0.0),
    ]
    assert "0.3 (1 before it, 2 after it, 1 there)" in activation.limits[-1]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_kinks_are_among_the_samples_unless_the_dtype_rounds_them(kind):
    (x,) = reference.samples(custom.activation_of(Stairs), "grad", kind)
    dtype = getattr(torch, kind)
    assert {-2.0, 1.0} <= {*x.tolist()}
    assert (torch.tensor(0.3, dtype=dtype) in x) == (kind == "float64")


def test_a_module_of_torch_s_that_is_called_like_ours_gets_a_prefix():
    activation = custom.load("torch.nn:Sigmoid")
    assert activation.name == "torch_sigmoid"
    assert activation.operators[0].op_type == "TorchSigmoid"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("torch.nn:Threshold", r"Threshold\(\) must work without arguments"),
        ("torch.nn:Softmax", "Softmax is not elementwise"),
        ("torch.nn:GLU", "GLU fails on tensors of shape"),
        ("torch.nn.functional:threshold", "functools.partial"),
    ],
)
@pytest.mark.filterwarnings("ignore:Implicit dimension choice:UserWarning")
def test_what_is_no_activation_of_torch_s_is_refused_with_a_way_out(target, reason):
    with pytest.raises(NotAnActivationError, match=reason):
        custom.load(target)
