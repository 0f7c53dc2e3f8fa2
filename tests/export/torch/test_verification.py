"""Exported models, compared with their modules before they are returned."""

import logging
import re

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx.defs import OpSchema
from onnxscript import opset18
from onnxscript.values import Op, Opset
from torch import nn

from gatewave.export.torch.calls import opened
from gatewave.export.torch.to_onnx import to_onnx
from gatewave.export.torch.verification import DiffersFromTorchError
from gatewave.graphs.errors import NotRunnableError, VerificationError
from gatewave.models.torch.swiglu import SwiGLU

X = torch.linspace(-3, 3, 12).reshape(3, 4)


def verify(module, given, translations, shapes=None):
    """Export a module with these translations, and verify the result."""
    with opened(module, given, shapes) as call:
        call.verify(call.exported((), opset=18, translations=translations), ())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = SwiGLU("linear", alpha=1.5)

    def forward(self, x):
        gated = self.act(x, x)
        wrong = torch.logaddexp(x, gated)
        return {"kept": gated + 1, "lost": wrong * 2}


def naive(a, b):
    """Write the form of Torch's own exporter, which overflows from 88.7 on in float32."""
    return opset18.Log(opset18.Add(opset18.Exp(a), opset18.Exp(b)))


def test_an_overflow_on_other_numbers_is_found_and_its_node_is_named():
    table = {torch.ops.aten.logaddexp.default: naive}
    with pytest.raises(VerificationError) as raised:
        verify(Net(), {"x": X}, table)
    message = str(raised.value)
    assert isinstance(raised.value, DiffersFromTorchError)
    assert "output mul" in message
    assert " is inf, not " in message
    assert "(Log, of aten.logaddexp.default, " in message
    assert "test_verification.py" in message
    assert "verify=False" in message
    assert raised.value.inputs["x"].shape == (3, 4)


def off_by_a_little(x):
    return opset18.Mul(opset18.Tanh(x), opset18.CastLike(opset18.Constant(value_float=1.001), x))


ROUGH = {torch.float32: True, torch.bfloat16: False}


@pytest.mark.parametrize(("dtype", "is_wrong"), ROUGH.items())
def test_the_tolerance_goes_by_the_dtype(dtype, is_wrong):
    table = {torch.ops.aten.tanh.default: off_by_a_little}
    if is_wrong:
        with pytest.raises(VerificationError, match=r"output tanh at .* elements differ"):
            verify(nn.Tanh(), {"x": X.to(dtype)}, table)
    else:
        verify(nn.Tanh(), {"x": X.to(dtype)}, table)


ROWS = np.zeros((3, 1), np.float32)


def frozen(x):
    """Add a constant that fits the size of the example only."""
    return opset18.Add(x, opset18.Constant(value=ir.to_proto(ir.tensor(ROWS))))


def test_other_sizes_are_tried_where_they_are_dynamic():
    table = {torch.ops.aten.relu.default: lambda x: frozen(opset18.Relu(x))}
    verify(nn.ReLU(), {"x": X}, table)
    with pytest.raises(VerificationError, match=r"fails on other numbers, other sizes: \(4, 4\)"):
        verify(nn.ReLU(), {"x": X}, table, shapes={"x": {0: torch.export.Dim("rows", max=9)}})


class Divided(nn.Module):
    def forward(self, x):
        return x // 4


def test_integers_are_tried_beyond_the_example_where_no_index_may_break():
    table = {torch.ops.aten.floor_divide.default: opset18.Div}
    with pytest.raises(VerificationError, match="inputs: other integers"):
        verify(Divided(), {"x": torch.arange(9)}, table)


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, tokens):
        return self.table(tokens).argmax(-1)


def test_indices_keep_to_the_range_of_the_example():
    to_onnx(Embedded(), {"tokens": torch.tensor([[0, 4]])}, dynamic_shapes={"tokens": {1: "n"}})


class Unlike(nn.Module):
    def forward(self, x):
        return x + 1 if torch.compiler.is_exporting() else x + 2


def test_a_module_that_is_another_when_it_is_exported_is_found():
    with pytest.raises(VerificationError, match="every node computes what torch"):
        to_onnx(Unlike(), {"x": X})
    assert to_onnx(Unlike(), {"x": X}, verify=False).graph.num_nodes() == 1


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout()  # none at evaluation

    def forward(self, x):
        return x + torch.rand_like(x), self.drop(x * 2)


def test_random_outputs_are_left_out_and_named(caplog):
    with caplog.at_level(logging.WARNING, "export"):
        to_onnx(Noisy(), {"x": X})
    assert re.findall("output (.*) is random", caplog.text) == ["add"]


class Sharp(nn.Module):
    """Module that amplifies small changes of its input: rounding is no fault."""

    def forward(self, x):
        return torch.sin(x * 1e6), (x * 1e6).round().long() % 2


def test_what_rounding_of_the_input_changes_is_no_difference():
    to_onnx(Sharp(), {"x": X})


def unknown(x):
    return Op(Opset("com.example", 1), "Mystery", MYSTERY)(x)


MYSTERY = OpSchema(
    "Mystery",
    "com.example",
    1,
    inputs=[OpSchema.FormalParameter("x", "T")],
    outputs=[OpSchema.FormalParameter("y", "T")],
    type_constraints=[("T", ["tensor(float)"], "")],
)


def test_a_model_that_nothing_runs_is_refused_with_a_way_out():
    with pytest.raises(NotRunnableError, match=r"nothing runs it: .*Mystery.*verify=False"):
        verify(nn.Tanh(), {"x": X}, {torch.ops.aten.tanh.default: unknown})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_near_0_and_1_are_kept(dtype):
    """Onnxscript takes them for 0 and 1: `log(x + 1e-9)` would be -inf at 0."""

    class Guarded(nn.Module):
        def forward(self, x):
            return torch.log(x.abs() + 1e-9), x * 1.000004, (x - 1e-9) / 1.000004, x * 1 + 0

    with opened(Guarded(), {"x": torch.zeros(3, dtype=dtype)}, None) as call:
        model = call.exported((), opset=18, translations=None).model
    kinds = [node.op_type for node in model.graph]
    assert kinds[:6] == ["Abs", "Add", "Log", "Mul", "Sub", "Div"]
    assert {*kinds[6:]} <= {"Identity"}


class Best(nn.Module):
    def forward(self, x):
        return x.topk(2).indices


def test_the_order_of_equal_numbers_is_no_difference():
    to_onnx(Best(), {"x": torch.randn(5, 8, generator=torch.Generator().manual_seed(0))})
