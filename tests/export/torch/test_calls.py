"""Calls of modules: their graphs give the same results, and the modules stay unchanged."""

import functools
import random
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize

from gatewave.export.accuracy.certify import run
from gatewave.export.errors import ArgumentsError
from gatewave.export.operators import to_bytes
from gatewave.export.torch.to_onnx import to_onnx
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.models.torch.swiglu import SwiGLU
from gatewave.models.torch.swish import Swish

A, B = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()
GIVEN = {"a": A, "b": B}


def ours(model):
    return [node.op_type for node in model.graph if node.domain == DOMAIN]


def check(model, module, inputs):
    """Check that the graph gives the results of the module."""
    wanted = module(*inputs.values())
    results = list(run(to_bytes(model), inputs).values())
    torch.testing.assert_close(results, [t.detach() for t in wanted], rtol=1e-5, atol=1e-6)


def clamped(act):
    inner = act.forward
    act.forward = types.MethodType(lambda _, a, b: inner(a.clamp(max=1.0), b), act)


def with_hook_of_accelerate(act):
    act.old_forward = act.forward
    new = functools.partial(lambda module, *x, **k: module.old_forward(*x, **k) * 2, act)
    act.forward = functools.update_wrapper(new, act.old_forward)


def hooked(act):
    act.register_forward_pre_hook(lambda _, x: (x[0] + 1, x[1]))
    act.register_forward_pre_hook(lambda _, x, k: (x, k), with_kwargs=True)
    act.register_forward_hook(lambda _, __, ___, y: y * 2, with_kwargs=True, always_call=True)


class Halved(nn.Module):
    def forward(self, x):
        return x / 2


def parametrized(act):
    act.alpha = nn.Parameter(torch.tensor(3.0))
    parametrize.register_parametrization(act, "alpha", Halved())


def trained(act):
    del act.alpha
    act.alpha = nn.Parameter(torch.tensor(1.5))


def misspelt(act):
    act.gate = "gelu"


class Shifted(SwiGLU):
    def forward(self, a, b):
        return super().forward(a, b) + 1


class Called(SwiGLU):
    def __call__(self, a, b):
        return super().__call__(a, b) - 1


CHANGES = (clamped, with_hook_of_accelerate, hooked, parametrized, trained, misspelt)


class Changed(nn.Module):
    """Our activation, used twice and changed in every way a user can; and an unchanged one."""

    def __init__(self):
        super().__init__()
        self.acts = nn.ModuleList(SwiGLU("linear", 1.5) for _ in CHANGES)
        for act, change in zip(self.acts, CHANGES, strict=True):
            change(act)
        self.acts.extend([Shifted("linear"), Called("linear")])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what torch.compile imports
            self.compiled = torch.compile(SwiGLU("linear", 0.5))
        self.plain = SwiGLU("linear")
        self.same = self.plain

    def forward(self, a, b):
        found = [act(a, b) for act in self.acts]
        if torch.compiler.is_exporting():  # elsewhere it would call the compiler
            found.append(self.compiled(a, b))
        else:
            found.append(SwiGLU("linear", 0.5)(a, b))
        return (*found, self.plain(a, b), self.same(b, a))


def test_a_part_that_was_changed_is_exported_as_it_is_called():
    module = Changed()
    before = {name: dict(vars(part)) for name, part in module.named_modules()}
    model = to_onnx(module, GIVEN)
    # The forward itself runs within the first three; the others may be anything.
    assert ours(model) == ["SwiGLULinear"] * 6
    check(model, module, GIVEN)
    assert {name: dict(vars(part)) for name, part in module.named_modules()} == before


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = SwiGLU("linear")

    def forward(self, a, b):
        return (self.act(a, b),)


def test_a_forward_changed_for_a_whole_class_is_exported(monkeypatch):
    plain = SwiGLU.forward
    monkeypatch.setattr(SwiGLU, "forward", lambda self, a, b: plain(self, a, b) - b)
    check(to_onnx(Gate(), GIVEN, verify=False), Gate(), GIVEN)


def test_a_hook_of_all_modules_is_exported():
    handle = register_module_forward_hook(lambda m, _, y: y * 3 if isinstance(m, SwiGLU) else None)
    try:
        check(to_onnx(Gate(), GIVEN, verify=False), Gate(), GIVEN)
    finally:
        handle.remove()


class Transformed(nn.Module):
    """Activation under function transformations, which have no node rule, and in branches."""

    def __init__(self):
        super().__init__()
        self.act = Swish(1.5)

    def forward(self, x):
        several = torch.func.vmap(self.act)(x)
        branch = torch.cond(x.sum() > 0, self.act, torch.neg, (x,))
        return several, branch, self.act(x)


def test_where_a_node_has_no_rule_torch_traces_the_activation():
    model = to_onnx(Transformed(), {"x": A}, verify=False)
    assert ours(model) == ["Swish"]
    check(model, Transformed(), {"x": A})


class Stateful(nn.Module):
    """Module with a forward that changes its state and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.calls, self.seen, self.settings = 0, [], types.SimpleNamespace(calls=0)
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.old = nn.utils.weight_norm(nn.Linear(4, 4))
            self.spectral = nn.utils.spectral_norm(nn.Linear(4, 4))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.calls, self.last, self.settings.calls = self.calls + 1, x, self.settings.calls + 1
        self.seen.append({"x": x})
        self.count.add_(1)
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002, S311
        found = self.drop(self.spectral(self.old(self.norm(x))))
        functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)
        return (found,)


def snapshot(module):
    """Return all visible state of a module, and of the random number generators."""
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    return {
        "attributes": {
            name: {key: id(value) for key, value in vars(part).items()}
            for name, part in module.named_modules()
        },
        "tensors": {
            name: (t.data_ptr(), t.requires_grad, id(t.grad), t.detach().clone().tolist())
            for name, t in tensors.items()
        },
        "training": [part.training for part in module.modules()],
        "seen": [*module.seen],
        "settings": vars(module.settings).copy(),
        "random": (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())),  # noqa: NPY002
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


def stateful():
    module = Stateful()
    module.norm.eval()
    module.spectral.requires_grad_(requires_grad=False)
    module.old(A).sum().backward()
    return module


def test_a_module_is_left_as_it_was():
    module = stateful()
    before = snapshot(module)
    to_onnx(module, {"x": A})
    assert snapshot(module) == before


class Failing(Stateful):
    def forward(self, x):
        super().forward(x)
        raise RuntimeError("it does not work")


def test_a_module_is_left_as_it_was_when_its_export_fails():
    module = Failing()
    before = snapshot(module)
    with pytest.raises(torch.onnx.OnnxExporterError, match="it does not work"):
        to_onnx(module, {"x": A})
    assert snapshot(module) == before


class Order(nn.Module):
    def forward(self, x, y):
        return (functional.silu(x) - y,)


def test_names_of_forward_bind_by_name_and_keep_their_order():
    model = to_onnx(Order(), {"y": B, "x": A}, dynamic_shapes={"y": {0: "n"}, "x": {0: "n"}})
    assert [value.name for value in model.graph.inputs] == ["y", "x"]
    found = run(to_bytes(model), {"x": A[:2], "y": B[:2]})
    torch.testing.assert_close(list(found.values()), list(Order()(A[:2], B[:2])))


class Nested(nn.Module):
    def forward(self, xs, *, mask, **options):
        return {"b": xs[0] + xs[1], "a": [mask["m"] * options["k"], None, (xs[1] + 1,)]}


def test_nested_inputs_and_outputs_are_flattened():
    given = {"k": A, "mask": {"m": B}, "xs": [A, B]}
    # A tensor that is given twice is two inputs.
    model = to_onnx(Nested(), given)
    assert [value.name for value in model.graph.inputs] == ["k", "mask_m", "xs_0", "xs_1"]
    inputs = {"k": A, "mask_m": B, "xs_0": A, "xs_1": B}
    found = run(to_bytes(model), inputs | {"k": B + 2})
    torch.testing.assert_close(list(found.values()), [A + B, B * (B + 2), B + 1])


def test_programs_of_torch_are_taken_and_so_are_their_modules():
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(nn.SiLU(), (A,), dynamic_shapes=({0: rows},))
    code = program.graph_module.code
    exports = [
        (program, {"input": A}, None),
        (program, {"x": A}, None),
        (program.module(), {"x": A}, {"input": {0: rows}}),
    ]
    for module, given, shapes in exports:
        model = to_onnx(module, given, dynamic_shapes=shapes)
        assert ours(model) == ["Swish"]
        assert [value.name for value in model.graph.inputs] == [*given]
        assert not model.graph.inputs[0].shape.is_static()
    assert program.graph_module.code == code
    with pytest.raises(ArgumentsError, match="were decided when"):
        to_onnx(program, {"x": A}, dynamic_shapes=({0: rows},))


def test_a_traced_graph_module_is_taken():
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4), nn.SiLU()))
    assert ours(to_onnx(traced, {"x": A})) == ["Swish"]


class Returns(nn.Module):
    def forward(self, x):
        return x + 1, 2.5


REFUSED = [
    (nn.LazyLinear(3), {}, "weight is not initialized yet"),
    (torch.tanh, {}, "expected an nn.Module .*, got builtin_function_or_method"),
    (nn.Tanh(), {"opset": 7}, "cannot bring this graph from opset 18 to 7"),
    (nn.Tanh(), {"opset": 99}, "expected a number from 1 to .*, got 99"),
    (nn.SiLU(), {"opset": 12}, "opset"),
    (Returns(), {}, r"returns float 2.5 \(output\[1\]\): expected tensors"),
]


@pytest.mark.parametrize(("module", "options", "message"), REFUSED)
def test_what_cannot_be_exported_is_named(module, options, message):
    with pytest.raises(ArgumentsError, match=message):
        to_onnx(module, {"x": A}, **options)


def test_torchscript_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.trace(nn.Tanh(), A)
    with pytest.raises(ArgumentsError, match="is TorchScript"):
        to_onnx(module, {"x": A})


class Handed(nn.Module):
    """Module that returns its inputs beside their sum."""

    def forward(self, x, y):
        return x, x + y, y


def test_inputs_that_are_outputs_keep_their_names():
    given = {"x": A, "y": B}
    model = to_onnx(Handed(), given)
    assert [value.name for value in model.graph.inputs] == ["x", "y"]
    check(model, Handed(), given)


class OfDictionary(nn.Module):
    def forward(self, pair):
        return (pair["a"] - pair["b"],)


def test_a_dictionary_may_be_the_last_argument():
    model = to_onnx(OfDictionary(), {"pair": {"a": A, "b": B}})
    (y,) = run(to_bytes(model), {"pair_a": A, "pair_b": B}).values()
    torch.testing.assert_close(y, A - B)


@pytest.mark.parametrize("x", [torch.tensor(1.5), torch.zeros(0, 3)])
def test_scalars_and_empty_tensors_are_exported(x):
    (node,) = to_onnx(nn.ReLU(), {"input": x}).graph
    assert node.op_type == "Relu"
