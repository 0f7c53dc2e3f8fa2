"""Modules of users: exported and certified like ours, or rejected with a reason."""

import json
import math
import sys
import textwrap

import mpmath
import onnx
import pytest
import torch
from torch import nn

from gatewave.export.accuracy import certify
from gatewave.export.artifacts import MANIFEST, Selection, write
from gatewave.export.errors import NotAnActivationError, ToleranceError
from gatewave.export.metadata import KEY
from gatewave.export.operators import decomposed, graphs_of, to_bytes, with_rank
from gatewave.export.torch import custom
from gatewave.graphs.errors import NotRunnableError
from gatewave.models import ACTIVATIONS, DTYPES, Activation, Tolerance


class Mish(nn.Module):
    """Smooth, self-gated function."""

    formula = "x*tanh(log(1 + exp(x)))"

    def forward(self, x):
        return x * torch.tanh(nn.functional.softplus(x))


class LearntGate(nn.Module):
    """Gate with a trained slope."""

    formula = "a*sigmoid(3*b/2)"

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1.5))

    def forward(self, a, b):
        return a * torch.sigmoid(self.slope * b)


class Ramp(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x, torch.zeros(x.shape, dtype=x.dtype))


class Entropy(nn.Module):
    """Function with a domain of positive numbers."""

    formula = "-x*log(x)"
    domain = (0.01, 50.0)
    tolerances = dict.fromkeys(
        ("float16", "bfloat16", "float32", "float64"), Tolerance(ulp=4, atol=1e-6)
    )

    def forward(self, x):
        return -x * torch.log(x)


@pytest.mark.parametrize(
    ("module", "dtypes"),
    [(Mish, ["float64"]), (LearntGate, DTYPES), (Ramp, ["float32"]), (Entropy, ["float16"])],
)
def test_it_is_certified_in_all_its_graphs_and_forms(module, dtypes):
    activation = custom.activation_of(module)
    (operator,) = activation.operators
    for (graph, dtype), model in graphs_of(activation, operator, dtypes).items():
        for form in (model, decomposed(model)):
            certify.certify(to_bytes(form), activation, operator, graph, dtype)


def test_its_record_is_found_out():
    record = custom.activation_of(LearntGate)
    assert record.name == "learnt_gate"
    assert record.title == "LearntGate"
    assert record.summary == "Gate with a trained slope."
    assert record.inputs == ("a", "b")
    assert record.source == f"{__name__}:LearntGate"
    assert record.domain == custom.DOMAIN_OF_CUSTOM


def test_its_attributes_say_more():
    record = custom.activation_of(Entropy)
    assert record.domain == (0.01, 50.0)
    assert record.plot_range == (0.01, 6.0)
    assert record.operators[0].tolerances["float32"] == Tolerance(ulp=4, atol=1e-6)
    assert all(0.01 < value < 6 for value in record.example["x"])


def test_its_graph_gives_what_the_formula_gives_at_any_rank():
    activation = custom.activation_of(Mish)
    model = graphs_of(activation, activation.operators[0], ["float64"])["grad", "float64"]
    x = torch.tensor([[-2.0, 0.5], [0.0, 3.0]], dtype=torch.float64)
    results = certify.run(to_bytes(with_rank(model, 2)), {"x": x})
    with mpmath.workdps(40):

        def mish(t):
            return t * mpmath.tanh(mpmath.log(1 + mpmath.exp(t)))

        values = [float(mish(mpmath.mpf(t))) for t in x.flatten().tolist()]
        slopes = [float(mpmath.diff(mish, mpmath.mpf(t))) for t in x.flatten().tolist()]
    assert results["y"].flatten().tolist() == pytest.approx(values, rel=1e-14)
    assert results["dy_dx"].flatten().tolist() == pytest.approx(slopes, rel=1e-13)


def test_a_module_without_formula_is_its_own_reference():
    activation = custom.activation_of(Ramp)
    (operator,) = activation.operators
    model = graphs_of(activation, operator, ["float32"])["value", "float32"]
    x = torch.tensor([-1.0, 0.0, 2.5])
    assert certify.run(to_bytes(model), {"x": x})["y"].tolist() == [0, 0, 2.5]


def test_its_artifacts_are_written_with_its_record_and_the_same_bytes_again(tmp_path):
    selection = Selection(dtypes=("float32",), graphs=("value",))
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        paths = write([custom.activation_of(LearntGate)], folder, selection)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {
        MANIFEST,
        "learnt_gate.value.float32.onnx",
        "learnt_gate.value.float32.decomposed.onnx",
        "learnt_gate.svg",
        "learnt_gate.png",
    }
    model = onnx.load(tmp_path / "one" / "learnt_gate.value.float32.onnx")
    properties = {p.key: p.value for p in model.metadata_props}
    assert json.loads(properties[KEY])["activation"]["title"] == "LearntGate"
    assert r"\operatorname{learnt\_gate}(a, b) =" in properties["formula"]


class WrongFormula(nn.Module):
    formula = "x**2"

    def forward(self, x):
        return 1.001 * x * x


class OnPole(nn.Module):
    formula = "1/x"

    def forward(self, x):
        return torch.reciprocal(x)


class Atan(nn.Module):
    """Arctangent; ONNX Runtime has the operator for float32 only."""

    def forward(self, x):
        return torch.atan(x)


@pytest.mark.parametrize("module", [WrongFormula, OnPole])
def test_a_module_that_is_not_its_formula_gets_no_certificate(module, tmp_path):
    selection = Selection(dtypes=("float32",), graphs=("value",))
    with pytest.raises(ToleranceError):
        write([custom.activation_of(module)], tmp_path / "artifacts", selection)
    assert not (tmp_path / "artifacts").exists()


def test_an_operator_that_onnx_runtime_lacks_is_named():
    selection = Selection(dtypes=("float64",), graphs=("value",))
    with pytest.raises(NotRunnableError, match=r"atan value float64: .*Atan"):
        write([custom.activation_of(Atan)], None, selection)


class NoTensor(nn.Module):
    def forward(self):
        return torch.ones(2)


class Optional(nn.Module):
    def forward(self, x, scale=2.0):
        return x * scale


class Variadic(nn.Module):
    def forward(self, *tensors):
        return tensors[0]


class Needy(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, x):
        return x * self.width


class AtRandom(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.randn(()))

    def forward(self, x):
        return x * self.slope


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError(f"out of luck with {len(x)}")


class Summing(nn.Module):
    def forward(self, x):
        return x.sum()


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Softmax(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)


class NamedLikeAnOutput(nn.Module):
    def forward(self, y):
        return 2 * y


class Branching(nn.Module):
    def forward(self, x):
        return x if x.isfinite().all() else -x


class Unparsable(nn.Module):
    formula = "x +* 2"

    def forward(self, x):
        return x


class Relation(Unparsable):
    formula = "x > 2"


class UnknownFunction(Unparsable):
    formula = "sigmod(x)"


class UnknownSymbol(Unparsable):
    formula = "x + z"


class NotInMpmath(Unparsable):
    formula = "DiracDelta(x)"


REFUSED = {
    NoTensor: "must take one tensor or more",
    Optional: "must take one tensor or more",
    Variadic: "must take one tensor or more",
    Needy: r"Needy\(\) must work without arguments: .*width",
    AtRandom: "AtRandom is initialised at random",
    Failing: r"fails on tensors of shape \(1, 5\): out of luck",
    Summing: r"not elementwise: of shape \(1, 5\) it makes \(\)",
    Pair: r"not elementwise: of shape \(1, 5\) it makes tuple",
    Softmax: "not elementwise: an element's result depends on others",
    NamedLikeAnOutput: "the name y is taken",
    Unparsable: r"formula 'x \+\* 2' is not a SymPy expression",
    Relation: "formula 'x > 2' is not a number",
    UnknownFunction: "calls sigmod, which SymPy does not know",
    UnknownSymbol: "has {z}",
    NotInMpmath: "cannot be computed by mpmath",
}


@pytest.mark.parametrize("module", REFUSED, ids=lambda module: module.__name__)
def test_what_is_no_activation_is_refused_with_the_reason(module):
    with pytest.raises(NotAnActivationError, match=REFUSED[module]):
        custom.activation_of(module)


def test_what_torch_cannot_export_is_refused_with_torch_s_reason():
    activation = custom.activation_of(Branching)
    with pytest.raises(NotAnActivationError, match="Torch cannot export it in float32"):
        graphs_of(activation, activation.operators[0], ["float32"])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the name of a module in the working folder, which is not on the import path."""
    source = """
    from torch import nn
    from gatewave.models import ACTIVATIONS

    class Outer:
        class Double(nn.Module):
            def forward(self, x):
                return 2 * x

    RECORD = ACTIVATIONS["sinc"]
    NUMBER = 7
    """
    (tmp_path / "their_package.py").write_text(textwrap.dedent(source))
    (tmp_path / "their_broken_package.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield "their_package"
    sys.modules.pop("their_package", None)


def test_a_class_is_found_in_the_working_folder(package):
    assert custom.load(f"{package}:Outer.Double").title == "Double"


def test_a_record_is_used_as_it_is(package):
    assert custom.load(f"{package}:RECORD") is ACTIVATIONS["sinc"]
    assert isinstance(custom.load("gatewave.models.sinc:SINC"), Activation)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("their_package", "not of the form package.module:Name"),
        (":Name", "not of the form package.module:Name"),
        ("their_package:Missing", "AttributeError: .*Missing"),
        ("their_package:NUMBER", "neither an nn.Module, an Activation, .* nor a function, but int"),
        ("no_such_package:Name", "ModuleNotFoundError: .*no_such_package"),
        ("their_broken_package:Name", "ZeroDivisionError"),
    ],
)
@pytest.mark.usefixtures("package")
def test_a_target_that_names_no_activation_is_refused_with_the_reason(target, reason):
    with pytest.raises(NotAnActivationError, match=reason):
        custom.load(target)


def test_examples_are_in_another_order_for_each_input():
    record = custom.activation_of(LearntGate)
    assert sorted(record.example["a"]) == sorted(record.example["b"])
    assert record.example["a"] != record.example["b"]
    assert all(math.isfinite(value) for value in record.example["a"])


class Tenth(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x, 0.1 * x)


class Leaky(nn.Module):
    def forward(self, x):
        return nn.functional.leaky_relu(x, 0.1)


@pytest.mark.parametrize("module", [Tenth, Leaky])
def test_constants_keep_their_digits_in_float64(module):
    activation = custom.activation_of(module)
    (operator,) = activation.operators
    for (graph, dtype), model in graphs_of(activation, operator, ["float64"]).items():
        measured = certify.certify(to_bytes(model), activation, operator, graph, dtype)
        assert all(found.used <= 1 for found in measured.values())


class Sampled(nn.Module):
    def forward(self, x):
        return torch.sinc(x) + nn.functional.silu(x)


def test_torch_s_sinc_inside_keeps_its_digits_in_float64():
    activation = custom.activation_of(Sampled)
    (operator,) = activation.operators
    model = graphs_of(activation, operator, ["float64"])["value", "float64"]
    certify.certify(to_bytes(model), activation, operator, "value", "float64")
