"""Networks exported by Torch, lowered for runtimes that lack some of their operators."""

import functools

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional

from gatewave.export.torch.to_onnx import to_onnx
from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.rewrite.lower.problems import problems
from gatewave.models.torch.sinc import Sinc
from gatewave.models.torch.swiglu import SwiGLU

WIDTH, HEADS, TOKENS = 16, 2, 5


class Block(nn.Module):
    """Block as in Llama: RMSNorm, attention, and a SwiGLU feed-forward."""

    def __init__(self, gate):
        super().__init__()
        self.first, self.second = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.gate = gate

    def forward(self, x):
        q, k, v = (
            part.view(*x.shape[:2], HEADS, -1).transpose(1, 2)
            for part in self.qkv(self.first(x)).chunk(3, dim=-1)
        )
        heads = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = x + self.out(heads.flatten(2))
        a, b = self.up(self.second(x)).chunk(2, dim=-1)
        return x + self.down(self.gate(a, b))


class Filters(nn.Module):
    """Front end as in SincNet: band-pass filters made of sinc, convolved with sound."""

    def __init__(self, sinc):
        super().__init__()
        self.edges = nn.Parameter(torch.linspace(0.05, 0.4, 5))
        self.sinc = sinc

    def forward(self, sound):
        time = torch.arange(-8.0, 9.0)
        low, high = self.edges[:-1, None], self.edges[1:, None]
        bands = 2 * high * self.sinc(2 * high * time) - 2 * low * self.sinc(2 * low * time)
        return functional.conv1d(sound, bands[:, None, :])


class TorchSinc(nn.Module):
    def forward(self, x):
        return torch.sinc(x)


def silu_gate(a, b):
    return functional.silu(a) * b


NETWORKS = {
    "block": (Block(silu_gate), torch.randn(2, TOKENS, WIDTH, generator=torch.manual_seed(0))),
    "filters": (Filters(torch.sinc), torch.randn(1, 1, 64, generator=torch.manual_seed(1))),
}


@functools.cache
def exported(name, opset):
    return exported_from(*NETWORKS[name], opset)


def exported_from(module, example, opset):
    with torch.no_grad():
        program = torch.onnx.export(
            module.eval(), (example,), dynamo=True, opset_version=opset, verbose=False
        )
    return ir.to_proto(program.model)


def lowered(proto, target):
    known = targets.find(target)
    made = ir.from_proto(proto)
    lower(made, known)
    assert [problem for problem in problems(made, known) if problem.known] == []
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    return after


def run(proto, *inputs):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [18, 20, 23])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_plain_network_is_brought_to_every_runtime(name, opset):
    module, example = NETWORKS[name]
    proto = exported(name, opset)
    want = module(example).detach().numpy()
    old = () if (name, opset) == ("block", 23) else ("litert", "iree")
    for target in ("onnxruntime-1.20", "onnxruntime-1.32", "openvino", "tract", *old):
        got = run(lowered(proto, target), example.numpy())
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_lacking_operators_get_bodies_from_onnx():
    proto = exported("block", 23)
    assert {"RMSNormalization", "Attention"} <= {node.op_type for node in proto.graph.node}
    after = lowered(proto, "onnxruntime-1.20")
    assert not {"RMSNormalization", "Attention"} & {node.op_type for node in after.graph.node}
    assert [(opset.domain, opset.version) for opset in after.opset_import] == [("", 21)]
    assert not after.functions


@pytest.mark.filterwarnings("ignore")
def test_body_that_fails_on_target_is_not_used():
    with pytest.raises(TargetError, match=r"iree-3\.13 does not run Attention"):
        lowered(exported("block", 23), "iree")


@pytest.mark.filterwarnings("ignore")
def test_obstacle_to_bodies_at_old_opset_is_named():
    with pytest.raises(TargetError, match=r"opset 17 .*ReduceMean"):
        lowered(exported("block", 23), "litert")


GATED = {
    "block": lambda: Block(SwiGLU("linear", alpha=1.5)),
    "filters": lambda: Filters(Sinc()),
}


@functools.cache
def gated(name):
    """Return a network of our operators, its example, and its graph."""
    module, example = GATED[name](), NETWORKS[name][1]
    return module, example, ir.to_proto(to_onnx(module, {"x": example}))


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("target", ["tvm", "tract", "onnxruntime"])
def test_network_of_our_operators_is_lowered(name, target):
    module, example, proto = gated(name)
    assert {node.domain for node in proto.graph.node} == {"", "ai.gatewave"}
    after = lowered(proto, target)
    want = module(example).detach().numpy()
    np.testing.assert_allclose(run(after, example.numpy()), want, rtol=1e-4, atol=1e-5)
    if target != "onnxruntime":
        assert [opset.domain for opset in after.opset_import] == [""]
        assert not after.functions


def test_network_of_opset_28_is_lowered():
    proto = onnx.parser.parse_model("""
    <ir_version: 14, opset_import: ["" : 28]>
    mlp (float[n, 4] x, float[4, 6] gate, float[4, 6] up, float[6, 4] down) => (float[n, 4] y) {
        a = MatMul (x, gate) b = MatMul (x, up) h = SwiGLU (a, b)
        r = MatMul (h, down) y = Add (x, r)
    }
    """)
    rng = np.random.default_rng(0)
    shapes = ((3, 4), (4, 6), (4, 6), (6, 4))
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    names = [port.name for port in proto.graph.input]
    want = ReferenceEvaluator(proto).run(None, dict(zip(names, inputs, strict=True)))[0]
    for target in ("onnxruntime-1.20", "onnxruntime-1.32", "litert", "ncnn"):
        after = lowered(proto, target)
        np.testing.assert_allclose(run(after, *inputs), want, rtol=1e-4, atol=1e-5)
        assert after.opset_import[0].version in targets.find(target).opsets


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sinc_of_torch_gets_form_right_near_0(dtype):
    x = torch.tensor([0, -0.0, 1e-44, 1e-40, 1e-20, 0.5, -1.3, 2.0]).to(getattr(torch, dtype))
    proto = exported_from(TorchSinc(), x, 18)
    want = run(proto, x.numpy())
    rounding = {"float16": 1e-3}.get(dtype, 1e-15)
    for target in ("openvino", "tract", "iree", "litert"):
        if targets.find(target).runs(("", "Sin"), 18, dtype):
            after = lowered(proto, target)
            assert "Equal" not in {node.op_type for node in after.graph.node}
            np.testing.assert_allclose(run(after, x.numpy()), want, rtol=0, atol=rounding)
