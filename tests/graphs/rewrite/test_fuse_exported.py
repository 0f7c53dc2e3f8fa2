"""Fusion of what Torch exports: every activation of a gallery is found and fused."""

import pytest
import torch
from fusing import fused
from running import check_same
from torch import nn
from torch.nn import functional

from gatewave.export.torch.to_onnx import to_onnx
from gatewave.export.torch.trace import trace
from gatewave.graphs.recognition.sites import sites
from gatewave.graphs.rewrite.fuse import FUSED
from gatewave.models.torch.swiglu import SwiGLU


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
def test_torch_exports_are_found_and_fused(opset):
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
def test_torch_exports_of_other_dtypes_are_found(dtype):
    parts = {name: GALLERY[name] for name in ("silu", "glu", "quick", "reglu", "gelu_tanh")}

    class Parts(nn.Module):
        def forward(self, *tensors):
            return tuple(p(x) for (p, _), x in zip(parts.values(), tensors, strict=True))

    inputs = {f"in_{name}": torch.ones(4, 8, dtype=getattr(torch, dtype)) for name in parts}
    model = trace(Parts(), inputs, ())
    assert [site.kind for site in sites(model)] == [kind for _, kind in parts.values()]


def test_module_exported_with_our_nodes_is_unchanged():
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
