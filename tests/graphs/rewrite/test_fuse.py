"""Fusion: each activation becomes one node with the same results; all other nodes are unchanged."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from drawing import Drawing, drawn
from running import check_same
from torch import nn
from torch.nn import functional

from gatewave.export.operators import decomposed
from gatewave.export.torch.to_onnx import to_onnx
from gatewave.export.torch.trace import trace
from gatewave.graphs.recognition.sites import sites
from gatewave.graphs.rewrite.fuse import FUSED, fuse
from gatewave.models.torch.swiglu import SwiGLU

DOMAIN = "ai.gatewave"


def fused(model, **options):
    """Return a fused copy, the outcome, and the operators in its graph."""
    copy = ir.from_proto(ir.to_proto(model))
    outcome = fuse(copy, **options)
    return copy, outcome, [node.op_type for node in copy.graph]


def swiglu(op, a, b):
    return op.Mul(op.Mul(a, op.Sigmoid(a)), b)


def silu(op, x):
    return op.Mul(x, op.Sigmoid(x))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_swiglu_becomes_one_node_with_its_body(dtype):
    model = drawn(swiglu, inputs=2, dtype=dtype)
    new, outcome, operators = fused(model)
    assert operators == ["SwiGLULinear"]
    assert (DOMAIN, "SwiGLULinear", "") in new.functions
    assert [change.output for change in outcome.changes] == ["out"]
    assert outcome.skipped == []
    check_same(model, new, dtype, evaluator=dtype == "float64")


def test_alpha_is_kept_in_full():
    model = drawn(lambda op, x: op.Mul(x, op.Sigmoid(op.Mul(x, 1.702))))
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    (alpha,) = new.graph.initializers.values()
    assert alpha.const_value.numpy() == np.float32(1.702)
    check_same(model, new)


STORED = float(np.float32(1.702))


def cast_alpha(op, x):
    alpha = op.cast(op.number(1.702, dtype="float32"), "float64")
    return op.Mul(x, op.Sigmoid(op.Mul(x, alpha)))


@pytest.mark.parametrize(
    ("write", "inputs", "opset"),
    [
        (lambda op, x: op.Swish(x, alpha=1.702), 1, 24),
        (lambda op, a, b: op.SwiGLU(a, b, alpha=1.702), 2, 28),
        (cast_alpha, 1, 18),
        (lambda op, x: op.node("QuickGelu", [x], domain="com.microsoft"), 1, 18),
    ],
    ids=["Swish", "SwiGLU", "cast", "QuickGelu"],
)
def test_float64_is_computed_with_the_alpha_that_is_stored(write, inputs, opset):
    drawing = Drawing(opset=opset, dtype="float64")
    given = [drawing.input(name) for name in "xy"[:inputs]]
    drawing.output(write(drawing, *given))
    new, outcome, _ = fused(drawing.model(domains=["com.microsoft"]))
    assert len(outcome.changes) == 1
    (alpha,) = new.graph.initializers.values()
    assert alpha.const_value.numpy() == pytest.approx(STORED, rel=1e-11)


def test_an_alpha_of_float64_stays_where_an_attribute_would_round_it():
    def write(op, x):
        return op.Mul(x, op.Sigmoid(op.Mul(x, 1.702)))

    model = drawn(write, dtype="float64", opset=24)
    _, outcome, operators = fused(model, to="standard")
    assert operators == ["Mul", "Sigmoid", "Mul"]
    assert [s.reason for s in outcome.skipped] == ["Swish would round alpha=1.702 to float32"]
    (alpha,) = fused(model)[0].graph.initializers.values()
    assert alpha.const_value.numpy() == 1.702
    assert fused(drawn(write, opset=24), to="standard")[2] == ["Swish"]


def test_a_stored_alpha_of_float64_becomes_an_attribute():
    model = drawn(cast_alpha, dtype="float64", opset=24)
    new, _, operators = fused(model, to="standard")
    assert operators == ["Swish"]
    assert new.graph[0].attributes["alpha"].as_float() == STORED


def test_two_alphas_share_one_body():
    def write(op, x):
        first = op.Mul(x, op.Sigmoid(op.Mul(x, 1.5)))
        return silu(op, first)

    model = drawn(write)
    new, _, operators = fused(model)
    assert operators == ["Swish", "Swish"]
    assert len(new.functions) == 1
    check_same(model, new)


def test_two_dtypes_have_a_body_each():
    drawing = Drawing()
    drawing.output(silu(drawing, drawing.input("x")), "one")
    half = drawing.input("h", dtype="float16")
    drawing.output(silu(drawing, half), "two", dtype="float16")
    model = drawing.model(ir_version=8)
    new, outcome, _ = fused(model)
    assert {key[2] for key in new.functions} == {"", "float16"}
    assert new.ir_version == 10
    assert [change.kind for change in outcome.changes] == ["swish", "ir", "swish"]
    check_same(model, new, "float16")


def test_to_standard_makes_onnx_operators():
    model = drawn(swiglu, inputs=2, opset=28)
    new, _, operators = fused(model, to="standard")
    assert operators == ["SwiGLU"]
    assert not new.functions
    check_same(model, new, evaluator=True)


def test_constants_of_many_paths_go_with_the_activation():
    # 4 to the power of 14: too many to go through each.
    def write(op, x):
        number = op.number(2.0**-28)
        for _ in range(14):
            number = op.Sum(number, number, number, number)
        return op.Mul(x, op.Sigmoid(op.Mul(x, number)))

    model = drawn(write)
    assert [change.what.split()[0] for change in fuse(model).changes] == ["Swish(alpha=1)"]
    assert [node.op_type for node in model.graph] == ["Swish"]


def test_to_standard_makes_a_swish_where_there_is_no_swiglu_yet():
    model = drawn(swiglu, inputs=2, opset=24)
    new, outcome, operators = fused(model, to="standard")
    assert operators == ["Swish", "Mul"]
    assert [s.reason for s in outcome.skipped] == ["SwiGLU needs opset 28; the graph's is 24"]
    check_same(model, new, evaluator=True)


def test_to_standard_says_which_opset_it_needs():
    _, outcome, operators = fused(drawn(silu), to="standard")
    assert operators == ["Sigmoid", "Mul"]
    assert [s.reason for s in outcome.skipped] == ["Swish needs opset 24; the graph's is 18"]


def test_ours_becomes_standard():
    new, _, _ = fused(drawn(silu, opset=24))
    back, _, operators = fused(new, to="standard")
    assert operators == ["Swish"]
    assert not back.functions
    assert DOMAIN not in back.opset_imports
    assert not back.graph.initializers


def test_standard_operators_become_ours():
    model = drawn(lambda op, x: op.Swish(x, alpha=1.5), opset=24)
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    assert new.graph[0].domain == DOMAIN
    check_same(model, new)


def test_fusing_again_changes_nothing():
    new, _, _ = fused(drawn(swiglu, inputs=2))
    before = ir.to_proto(new).SerializeToString(deterministic=True)
    again, outcome, _ = fused(new)
    assert (outcome.changes, outcome.skipped) == ([], [])
    assert ir.to_proto(again).SerializeToString(deterministic=True) == before


def test_our_own_decomposed_graphs_are_put_together_again(case, exported, dtype):
    activation, operator = case
    stem = activation.stem(operator)
    model = decomposed(exported(stem)["value", dtype])
    new, _, operators = fused(model)
    if stem in {"bilinear", "sigmoid"}:
        assert len(operators) > 1 or operators == [model.graph[0].op_type]
        return
    assert operators == [operator.op_type]
    (body,) = new.functions.values()
    (original,) = exported(stem)["value", dtype].functions.values()
    assert [n.op_type for n in body] == [n.op_type for n in original]
    assert list(new.graph.initializers) == list(operator.reals)


def test_names_metadata_and_the_rest_of_the_graph_stay():
    drawing = Drawing()
    x = drawing.input("x")
    before = drawing.node("Softplus", [x], name="before")
    swish = silu(drawing, before)
    drawing.nodes[-1].name = "/layer.3/act/Mul"
    drawing.nodes[-1].metadata_props["origin"] = "here"
    drawing.nodes[-1].doc_string = "said"
    swish.name = "/layer.3/act/Mul_output_0"
    drawing.output(drawing.node("Softmax", [swish], name="after"), "out")
    model = drawing.model()
    new, _, operators = fused(model)
    assert operators == ["Softplus", "Swish", "Softmax"]
    node = new.graph[1]
    assert node.name == "/layer.3/act/Swish"
    assert node.outputs[0].name == "/layer.3/act/Mul_output_0"
    assert (node.metadata_props["origin"], node.doc_string) == ("here", "said")
    assert [n.name for n in new.graph if n is not node] == ["before", "after"]


def test_the_annotation_of_a_quantised_value_stays():
    proto = ir.to_proto(drawn(lambda op, x: op.Softmax(silu(op, x))))
    for name in ("x", proto.graph.node[1].output[0], "out"):
        annotation = proto.graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    new, _, operators = fused(ir.from_proto(proto))
    assert operators == ["Swish", "Softmax"]
    after = ir.to_proto(new).graph.quantization_annotation
    assert sorted(a.tensor_name for a in after) == ["Mul_1_out", "out", "x"]


def test_node_names_stay_unique():
    drawing = Drawing()
    value = drawing.input("x")
    for _ in range(3):
        value = silu(drawing, value)
        drawing.nodes[-1].name = "/act/Mul"
    drawing.output(value, "out")
    new, _, _ = fused(drawing.model())
    assert len({node.name for node in new.graph}) == 3


def test_what_the_activation_alone_has_used_goes_with_it():
    model = drawn(
        lambda op, x: op.Mul(x, op.Sigmoid(op.Mul(x, op.Sqrt(2.25)))), style="initializer"
    )
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    (alpha,) = new.graph.initializers.values()
    assert alpha.name.startswith("alpha")
    check_same(model, new)


def test_a_constant_with_another_use_stays():
    def write(op, x):
        number = op.number(1.5)
        return op.Softmax(op.Sub(op.Mul(x, op.Sigmoid(op.Mul(x, number))), number))

    model = drawn(write)
    new, _, operators = fused(model)
    assert operators == ["Swish", "Sub", "Softmax"]
    check_same(model, new)


def test_a_shared_gate_goes_when_all_of_its_users_do():
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    gate = drawing.Sigmoid(x)
    drawing.output(drawing.Mul(x, gate), "one")
    drawing.output(drawing.Mul(y, gate), "two")
    model = drawing.model()
    new, _, operators = fused(model)
    assert operators == ["Swish", "GLU"]
    check_same(model, new)


def test_a_shared_gate_stays_where_one_of_its_users_does():
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    gate = drawing.Sigmoid(x)
    drawing.output(drawing.Mul(x, gate), "one")
    drawing.output(drawing.Mul(y, gate), "two")
    model = drawing.model()
    _, outcome, operators = fused(model, kinds=["swish"])
    assert operators == ["Sigmoid", "Mul", "Mul"]
    assert "is used by Mul_2 too" in outcome.skipped[0].reason
    assert (outcome.skipped[0].kind, outcome.skipped[0].output) == ("swish", "one")


def test_an_activation_of_an_activation_is_fused_with_it():
    model = drawn(lambda op, x: silu(op, silu(op, x)))
    new, _, operators = fused(model)
    assert operators == ["Swish", "Swish"]
    check_same(model, new)


def test_only_the_swish_is_fused_where_shapes_may_differ():
    drawing = Drawing()
    a, b = drawing.input("a", ("n", 4)), drawing.input("b", ("m", 4))
    drawing.output(swiglu(drawing, a, b), shape=(None, 4))
    _, outcome, operators = fused(drawing.model())
    assert operators == ["Swish", "Mul"]
    assert outcome.skipped[0].reason == (
        "the shapes are not known to be equal: a [n,4] and b [m,4]"
    )


def test_an_element_type_that_is_not_known_is_left():
    drawing = Drawing()
    x = drawing.input("x")
    inner = drawing.node("Unknown", [x], domain="some.where")
    drawing.output(drawing.Softmax(silu(drawing, inner)))
    _, outcome, _ = fused(drawing.model(domains=["some.where"]))
    assert [s.reason for s in outcome.skipped] == ["its element type is not known"]


def test_an_opset_that_lacks_what_the_body_needs_is_named():
    def write(op, x):
        pi_x = op.Mul(x, np.pi)
        guard = op.Equal(op.node("Cast", [x], to=7), op.tensor(np.array(0)))
        return op.Where(guard, 1.0, op.Div(op.Sin(pi_x), pi_x))

    def torch_form(op, x):
        pi_x = op.Mul(x, np.pi)
        near = op.Less(op.Abs(x), 1e-7)
        return op.Where(near, 1.0, op.Div(op.Sin(pi_x), pi_x))

    _, outcome, _ = fused(drawn(torch_form, opset=9))
    assert outcome.skipped[0].reason == "needs opset 11, which has Round; the graph's is 9"
    assert fused(drawn(write, opset=11))[1].changes == []


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 20, 23, 24])
def test_it_is_fused_at_every_opset(opset):
    model = drawn(silu, opset=opset)
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    assert new.opset_imports == {"": opset, DOMAIN: 1}
    check_same(model, new)


def test_an_old_file_format_is_raised_to_one_with_functions():
    drawing = Drawing(opset=11)
    drawing.output(silu(drawing, drawing.input("x")))
    new, outcome, _ = fused(drawing.model(ir_version=6))
    assert new.ir_version == 8
    assert [c.what for c in outcome.changes if c.kind == "ir"] == [
        "IR version 6 raised to 8: functions need it"
    ]


def test_bodies_are_fused():
    drawing = Drawing()
    x = drawing.input("x")
    outer = drawing.Neg(x)
    bodies = []
    for sign in (drawing.Identity, drawing.Neg):
        inner = Drawing(style="node")
        scaled = inner.Mul(outer, 1.5)
        result = inner.output(inner.Mul(outer, inner.Sigmoid(scaled)), f"inner{len(bodies)}")
        bodies.append(ir.Graph([], [result], nodes=inner.nodes, name=str(sign)))
    condition = drawing.tensor(np.array(True))
    drawing.output(drawing.If(condition, then_branch=bodies[0], else_branch=bodies[1]))
    model = drawing.model()
    new, outcome, _ = fused(model)
    assert len(outcome.changes) == 2
    assert [node.op_type for node in new.graph.all_nodes()].count("Swish") == 2
    check_same(model, new)


def test_a_called_function_is_replaced_and_goes():
    body = Drawing(style="node")
    a = ir.Value(name="a")
    graph = ir.Graph([a], [silu(body, a)], nodes=body.nodes, opset_imports={"": 18})
    function = ir.Function("some.package", "SiLU", graph=graph, attributes=[])
    drawing = Drawing()
    drawing.output(drawing.node("SiLU", [drawing.input("x")], domain="some.package"))
    model = drawing.model([function], ["some.package"])
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    assert set(new.opset_imports) == {"", DOMAIN}
    assert [key[0] for key in new.functions] == [DOMAIN]
    check_same(model, new)


def test_what_a_function_calls_comes_before_it():
    body = Drawing(style="node")
    a = ir.Value(name="a")
    graph = ir.Graph([a], [body.Add(silu(body, a), a)], nodes=body.nodes, opset_imports={"": 18})
    function = ir.Function("some.package", "Residual", graph=graph, attributes=[])
    drawing = Drawing()
    drawing.output(drawing.node("Residual", [drawing.input("x")], domain="some.package"))
    model = drawing.model([function], ["some.package"])
    new, outcome, operators = fused(model)
    assert operators == ["Residual"]
    assert len([change for change in outcome.changes if change.kind == "swish"]) == 1
    check_same(model, new, evaluator=True)


def test_an_alias_means_its_parameters():
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(silu(drawing, x), "plain")
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, 1.702))), "quick")
    model = drawing.model()
    for kinds, outputs in (
        (["silu"], ["plain"]),
        (["quick-gelu"], ["quick"]),
        (["silu", "quick-gelu"], ["plain", "quick"]),
        (["silu", "swish"], ["plain", "quick"]),
    ):
        _, outcome, _ = fused(model, kinds=kinds)
        assert [change.output for change in outcome.changes] == outputs
    _, outcome, _ = fused(model, kinds=["silu"])
    assert [s.reason for s in outcome.skipped] == [
        "its parameters are {'alpha': 1.702}, not {'alpha': 1.0}"
    ]


def test_what_is_left_goes_by_its_output_where_its_node_has_no_name():
    model = drawn(silu)
    model.graph[-1].name = ""
    _, outcome, _ = fused(model, to="standard")
    assert [s.node for s in outcome.skipped] == ["out"]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no activation is called"):
        fuse(drawn(silu), kinds=["nonsense"])


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(8, 16), nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, x):
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.both = nn.Linear(8, 32)

    def forward(self, x):
        a, b = self.both(x).chunk(2, dim=-1)
        return functional.silu(a) * b


class SincNet(nn.Module):
    """Bank of band-pass filters made of sinc, over raw samples."""

    def __init__(self):
        super().__init__()
        self.low, self.band = nn.Parameter(torch.rand(4, 1)), nn.Parameter(torch.rand(4, 1))

    def forward(self, x):
        time = torch.arange(-8, 9, dtype=torch.float32) / 8
        # Of the input, too: else the filters would be constants.
        low, high = self.low.abs() + x.mean(), self.low.abs() + self.band.abs()
        filters = high * torch.sinc(2 * high * time) - low * torch.sinc(2 * low * time)
        return functional.conv1d(x.reshape(1, 1, -1), filters.unsqueeze(1))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


GALLERY = {
    "silu": (nn.SiLU(), "swish"),
    "glu": (nn.GLU(), "glu"),
    "gelu": (nn.GELU(), "gelu"),
    "gelu_tanh": (nn.GELU(approximate="tanh"), "gelu-tanh"),
    "mish": (nn.Mish(), "mish"),
    "hardswish": (nn.Hardswish(), "hardswish"),
    "hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid"),
    "relu6": (nn.ReLU6(), "relu6"),
    "leaky": (nn.LeakyReLU(), "leaky-relu"),
    "sinc": (Function(torch.sinc), "sinc"),
    "quick": (Function(lambda x: x * torch.sigmoid(1.702 * x)), "swish"),
    "sigmoid_gate": (
        Function(lambda x: SwiGLU().forward.__wrapped__(SwiGLU(), x, x + 1)),
        "swiglu-sigmoid",
    ),
    "reglu": (Function(lambda x: functional.relu(x) * (x + 1)), "reglu"),
    "geglu": (Function(lambda x: functional.gelu(x) * (x + 1)), "geglu"),
    "llama": (Llama(), "swiglu-linear"),
    "packed": (Packed(), "swiglu-linear"),
    "sincnet": (SincNet(), "sinc"),
}


class Gallery(nn.Module):
    """All activations, each with its own input: one export for all, because each takes a second."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({name: part for name, (part, _) in GALLERY.items()})

    def forward(self, *tensors):
        return tuple(part(x) for part, x in zip(self.parts.values(), tensors, strict=True))


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_what_torch_exports_is_found_and_fused(opset):
    random = torch.Generator().manual_seed(0)
    inputs = {f"in_{name}": 3 * torch.randn(4, 8, generator=random) for name in GALLERY}
    model = trace(Gallery(), inputs, (), opset=opset)
    expected = [kind for _, kind in GALLERY.values()]
    found = sites(model)
    assert {*expected} == {site.kind for site in found}
    outputs = [value.name for value in model.graph.outputs]
    at_outputs = {site.output.name: site.kind for site in found}
    for name, kind in zip(outputs, expected, strict=True):
        assert at_outputs.get(name, kind) == kind
    assert [site.kind for site in found].count("sinc") == 2
    assert [site.layout for site in found if site.kind == "swiglu-linear"] == [
        "separate",
        "packed halves, gate first",
    ]
    new, outcome, _ = fused(model)
    assert [c.kind for c in outcome.changes] == [
        s.kind for s in found if s.kind in FUSED["gatewave"]
    ]
    check_same(model, new, inputs={name: x.numpy() for name, x in inputs.items()})


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_what_torch_exports_in_other_dtypes_is_found(dtype):
    parts = {name: GALLERY[name] for name in ("silu", "glu", "quick", "reglu", "gelu_tanh")}

    class Parts(nn.Module):
        def forward(self, *tensors):
            return tuple(p(x) for (p, _), x in zip(parts.values(), tensors, strict=True))

    inputs = {f"in_{name}": torch.ones(4, 8, dtype=getattr(torch, dtype)) for name in parts}
    model = trace(Parts(), inputs, ())
    assert [site.kind for site in sites(model)] == [kind for _, kind in parts.values()]


def test_a_module_exported_with_our_nodes_is_left_as_it_is():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = SwiGLU(gate="linear", alpha=1.5)

        def forward(self, x):
            return self.act(x, x + 1)

    model = to_onnx(Block(), {"x": torch.ones(2, 3)})
    assert [(s.kind, dict(s.reals), s.written) for s in sites(model)] == [
        ("swiglu-linear", {"alpha": 1.5}, "function")
    ]
    assert fused(model)[1].changes == []
