"""Networks with our activations: each becomes a node, and the results equal those of Torch."""

import onnx
import onnx_ir as ir
import pytest
import torch
from records import CASES
from torch import nn

from gatewave.export.accuracy.certify import run
from gatewave.export.operators import decomposed, graphs_of, to_bytes
from gatewave.export.torch.to_onnx import to_onnx
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.models import DTYPES
from gatewave.models.torch.glu import ReGLU
from gatewave.models.torch.sinc import Sinc
from gatewave.models.torch.swiglu import SwiGLU
from gatewave.models.torch.swish import Swish


class Block(nn.Module):
    """Feed-forward block as in language models, and a periodic one after it."""

    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 6)
        self.act = SwiGLU("linear", alpha=1.3)
        self.wave = nn.Sequential(Sinc(), nn.Dropout(0.5))

    def forward(self, x):
        return x + self.wave(self.down(self.act(self.gate(x), b=self.up(x))))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.last = SwiGLU()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x, x.flip(-1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network()


def domains(model):
    return {node.domain for node in model.graph}


def test_a_network_gives_what_torch_gives_for_any_batch(network):
    batch = torch.export.Dim("batch")
    model = to_onnx(network, {"x": torch.randn(2, 5, 6)}, dynamic_shapes=({0: batch},))
    x = torch.randn(7, 5, 6)
    wanted = network.eval()(x).detach()
    for form in (model, decomposed(model)):
        (result,) = run(to_bytes(form), {"x": x}).values()
        torch.testing.assert_close(result, wanted, rtol=1e-5, atol=1e-6)


def test_its_activations_are_nodes_of_our_domain_and_their_bodies_are_there_once(network):
    model = to_onnx(network, {"x": torch.randn(2, 6)})
    ours = [node.op_type for node in model.graph if node.domain == DOMAIN]
    assert sorted(ours) == ["Sinc", "Sinc", "SwiGLULinear", "SwiGLULinear", "SwiGLUSigmoid"]
    assert sorted(name for _, name, _ in model.functions) == sorted(set(ours))
    assert domains(decomposed(model)) == {""}
    onnx.checker.check_model(onnx.load_from_string(to_bytes(model)), full_check=True)


def test_the_network_is_left_as_it_was(network):
    network.train()
    network.blocks[0].wave[1].eval()
    before = {name: part.training for name, part in network.named_modules()}
    to_onnx(network, {"x": torch.randn(2, 6)})
    assert {name: part.training for name, part in network.named_modules()} == before
    assert "forward" not in vars(network.blocks[0].act)


class TwoSlopes(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Swish(alpha=1.702), Swish(alpha=0.1)

    def forward(self, x, alpha):
        return self.first(x) + self.second(alpha)


def test_slopes_keep_their_digits_and_do_not_take_the_name_of_an_input():
    x, alpha = torch.randn(2, 3, 4, dtype=torch.float64)
    model = to_onnx(TwoSlopes(), {"x": x, "alpha": alpha})
    (result,) = run(to_bytes(model), {"x": x, "alpha": alpha}).values()
    torch.testing.assert_close(result, TwoSlopes()(x, alpha), rtol=1e-15, atol=1e-15)


class Broadcasting(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = SwiGLU()

    def forward(self, a, b):
        return self.act(a, b)


def test_inputs_of_other_shapes_and_dtypes_are_made_alike_before_the_node():
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(4, dtype=torch.float64)}
    model = to_onnx(Broadcasting(), tensors)
    (result,) = run(to_bytes(model), tensors).values()
    torch.testing.assert_close(result, Broadcasting()(*tensors.values()), rtol=1e-14, atol=1e-15)


def test_inputs_that_are_alike_need_no_other_node():
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(3, 4)}
    size = torch.export.Dim("rows")
    model = to_onnx(Broadcasting(), tensors, dynamic_shapes=({0: size}, {0: size}))
    assert [node.op_type for node in model.graph] == ["SwiGLUSigmoid"]


class TwoDtypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = ReGLU()

    def forward(self, a):
        return self.act(a, a), self.act(a.double(), a.double())


def test_one_activation_in_two_dtypes_has_a_body_for_each():
    a = torch.randn(4)
    model = to_onnx(TwoDtypes(), {"a": a})
    assert [*model.functions] == [(DOMAIN, "ReGLU", ""), (DOMAIN, "ReGLU", "float64")]
    for form in (model, decomposed(model)):
        results = run(to_bytes(form), {"a": a}).values()
        assert [result.dtype for result in results] == [torch.float32, torch.float64]
        torch.testing.assert_close([*results], [*TwoDtypes()(a)])


class Everything(nn.Module):
    """The module of each record, on tensors of each dtype."""

    def __init__(self):
        super().__init__()
        self.modules_of_records = nn.ModuleList(operator.build() for _, operator in CASES.values())

    def forward(self, *tensors):
        rest = iter(tensors)
        return [
            module(*(next(rest) for _ in activation.inputs))
            for _ in DTYPES
            for module, (activation, _) in zip(self.modules_of_records, CASES.values(), strict=True)
        ]


def test_torch_traces_the_nodes_that_are_drawn_from_the_records():
    cases = [(*case, dtype) for dtype in DTYPES for case in CASES.values()]
    arguments = {
        f"x{index}_{name}": torch.ones(2, dtype=getattr(torch, dtype))
        for index, (activation, _, dtype) in enumerate(cases)
        for name in activation.inputs
    }
    size = torch.export.Dim("n")
    shapes = (tuple({0: size} for _ in arguments),)
    # Each comparison of results is elsewhere: here the nodes are compared.
    traced = to_onnx(Everything(), arguments, dynamic_shapes=shapes, opset=18, verify=False)
    nodes = [value.producer() for value in traced.graph.outputs]
    for node, (activation, operator, dtype) in zip(nodes, cases, strict=True):
        drawn = graphs_of(activation, operator, [dtype], ["value"])["value", dtype]
        assert described(node, traced) == described(drawn.graph[0], drawn)


def described(node, model):
    """Return all of a node and its function except for names, overload and opset."""
    function = model.functions[node.op_identifier()]
    values = {}
    body = [
        (
            n.op_type,
            [values.setdefault(v, len(values)) for v in (*n.inputs, *n.outputs)],
            numbers(n),
        )
        for n in (*function, node)
    ]
    constants = [value.const_value for value in node.inputs]
    scalars = [constant.numpy().item() for constant in constants if constant is not None]
    types = [(value.dtype, len(value.shape)) for value in (*node.inputs, *node.outputs)]
    return node.domain, body, [values.get(v) for v in function.inputs], scalars, types


def numbers(node):
    return [
        (name, a.value.numpy().tobytes() if a.type == ir.AttributeType.TENSOR else a.value)
        for name, a in node.attributes.items()
    ]
