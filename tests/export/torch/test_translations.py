"""Torch's sinc, SiLU and GLU in nested modules, exported by Torch with our table, and by us."""

import functools
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxscript
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnxscript import FLOAT, opset18
from torch import nn
from torch.nn import functional

from gatewave import export
from gatewave.export.accuracy.certify import Kernels, certify, run
from gatewave.export.errors import ToleranceError
from gatewave.export.operators import decomposed
from gatewave.export.torch.to_onnx import to_onnx
from gatewave.graphs.ops.graph_ops import dtype_of
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.rewrite.fuse import fuse
from gatewave.models import ACTIVATIONS, DTYPES

pytestmark = [
    # What Torch says of itself, called as a user calls it.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:# The axis name:UserWarning"),
]

LIBRARY = Path(__file__).parents[3] / "service" / "libgatewave.so"
KERNELS = [None, Kernels(LIBRARY)] if LIBRARY.exists() else [None]
"""Function bodies, and compiled kernels if they are built."""

OPSETS = (18, 20, 22, 23, 25)
"""First and last opsets that Torch converts to, its default, and those with bfloat16."""

TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 2e-5, "float64": 1e-13}
"""Tolerances of whole networks; most of the error comes from the other layers."""

TABLE = export.torch_translations()


class Sinc(nn.Module):
    def forward(self, x):
        return torch.sinc(x)


class GLU(nn.Module):
    def forward(self, a, b):
        return functional.glu(torch.stack([a, b], -1)).squeeze(-1)


ALONE = {"sinc": (Sinc(), ("x",)), "swish": (nn.SiLU(), ("x",)), "glu": (GLU(), ("a", "b"))}


def exported(module, inputs, opset=20, table=TABLE, **options):
    """Export ``module`` with Torch's own exporter."""
    return torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        input_names=list(inputs),
        dynamo=True,
        opset_version=opset,
        custom_translation_table=table,
        verbose=False,
        **options,
    ).model


def content(model):
    """Return the bytes of a model that passes the checker."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def alone(name, dtype, export_it):
    """Export an activation by itself, with one axis of any length."""
    module, names = ALONE[name]
    inputs = {n: torch.ones(4, dtype=getattr(torch, dtype)) for n in names}
    size = torch.export.Dim("n")
    return export_it(module, inputs, dynamic_shapes=tuple({0: size} for _ in names))


def certified(model, name, dtype, kernels=None):
    activation = ACTIVATIONS[name]
    compute = functools.partial(run, kernels=kernels)
    # Torch calls the output by the last operator.
    model.graph.outputs[0].name = "y"
    return certify(
        content(model), activation, activation.operators[0], "value", dtype, compute=compute
    )


@pytest.mark.parametrize("name", ALONE)
def test_torch_s_export_with_the_table_is_within_the_record_s_bounds(name, dtype):
    model = alone(name, dtype, exported)
    assert {node.domain for node in model.graph} == {""}
    certified(model, name, dtype)


@pytest.mark.parametrize("name", ALONE)
def test_to_onnx_makes_it_a_node_that_is_within_them_too(name, dtype):
    model = alone(name, dtype, to_onnx)
    ours = [node.op_type for node in model.graph if node.domain == DOMAIN]
    assert ours == [ACTIVATIONS[name].operators[0].op_type]
    for kernels in KERNELS:
        certified(model, name, dtype, kernels)


def test_float64_is_wrong_without_the_table():
    with pytest.raises(ToleranceError, match="sinc value float64"):
        certified(
            alone("sinc", "float64", functools.partial(exported, table=None)), "sinc", "float64"
        )


def test_float16_is_wrong_without_the_table():
    with pytest.raises(ToleranceError, match="sinc value float16"):
        certified(
            alone("sinc", "float16", functools.partial(exported, table=None)), "sinc", "float16"
        )


def test_bfloat16_is_invalid_without_the_table():
    model = alone("sinc", "bfloat16", functools.partial(exported, table=None))
    with pytest.raises(onnx.shape_inference.InferenceError, match="Sin"):
        content(model)


FUNCTIONS = (torch.sinc, functional.silu, functional.glu)


class AllDtypes(nn.Module):
    """Module with each function in each dtype."""

    def forward(self, x):
        return tuple(f(x.to(getattr(torch, dtype))) for dtype in DTYPES for f in FUNCTIONS)


GRID = torch.cat([torch.arange(-8.0, 8.0, 0.25), torch.tensor([0.0, 1e-30, 1e-3, 40.0])]).double()


def check_all_dtypes(results):
    """Compare with float64 at the rounded grid; ONNX Runtime's inexact sigmoid is excused."""
    kinds = [getattr(torch, dtype) for dtype in DTYPES]
    wanted = [(kind, f(GRID.to(kind).double())) for kind in kinds for f in FUNCTIONS]
    for result, (kind, exact) in zip(results, wanted, strict=True):
        limit = 8 * torch.finfo(kind).eps
        torch.testing.assert_close(result, exact.to(kind), rtol=limit, atol=limit)


@pytest.mark.parametrize("opset", OPSETS)
def test_the_table_serves_every_opset_that_torch_writes(opset):
    model = exported(AllDtypes(), {"x": GRID}, opset)
    assert model.opset_imports == {"": opset}
    check_all_dtypes(list(run(content(model), {"x": GRID}).values()))


@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_a_function_in_several_dtypes_has_a_body_for_each(opset):
    model = to_onnx(AllDtypes(), {"x": GRID}, opset=opset)
    assert {overload for _, _, overload in model.functions} == {"", *DTYPES[1:]}
    for kernels in KERNELS:
        check_all_dtypes(list(run(content(model), {"x": GRID}, kernels).values()))
    check_all_dtypes(list(run(content(decomposed(model)), {"x": GRID}).values()))


def test_what_is_not_optimized_is_right_too():
    model = exported(AllDtypes(), {"x": GRID}, optimize=False)
    check_all_dtypes(list(run(content(model), {"x": GRID}).values()))


class Llama(nn.Module):
    """Block of a language model: attention, and a gated feed-forward part.

    Its numbers are powers of two: Torch exports others to float64 with the digits of float32.
    """

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.ModuleDict({n: nn.Linear(8, 16) for n in ("gate", "up")})
        self.down, self.act = nn.Linear(16, 8), nn.SiLU()

    def forward(self, x):
        q, k, v = self.qkv(self.normed(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.mT / 4, -1) @ v)
        y = self.normed(x)
        return x + self.down(self.act(self.mlp["gate"](y)) * self.mlp["up"](y))

    def normed(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 2**-20)


class SincNet(nn.Module):
    """Band-pass filters on raw audio, each the difference of two sincs."""

    def __init__(self):
        super().__init__()
        self.low, self.band = nn.Parameter(torch.rand(6, 1)), nn.Parameter(torch.rand(6, 1))
        self.register_buffer("time", torch.arange(-4.0, 5.0))

    def forward(self, x):
        low, high = self.low, self.low + self.band
        filters = 2 * high * torch.sinc(2 * high * self.time) - 2 * low * torch.sinc(
            2 * low * self.time
        )
        return functional.conv1d(x, filters[:, None], padding=4)


class Gated(nn.Module):
    """A convolution with a gate over its channels, as in speech models."""

    def __init__(self):
        super().__init__()
        self.conv, self.glu = nn.Conv1d(6, 16, 3, padding=1), nn.GLU(dim=-2)

    def forward(self, x):
        return functional.silu(self.glu(self.conv(x)), inplace=True)


class Speech(nn.Module):
    """All these modules, nested."""

    def __init__(self):
        super().__init__()
        self.front = nn.Sequential(SincNet(), nn.Sequential(Gated(), nn.Dropout(0.5)))
        self.blocks = nn.ModuleList([Llama()])

    def forward(self, x):
        x = self.front(x).mT
        for block in self.blocks:
            x = block(x)
        return torch.sinc(x)


@pytest.fixture
def speech():
    torch.manual_seed(0)
    return Speech().eval()


AUDIO = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SHAPES = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("time")},)
LONGER = torch.randn(3, 1, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def check_speech(speech, model, dtype, *, kernels=False):
    """Check the model against the network in float64, in all that run it."""
    proto, x = onnx.load_from_string(content(model)), LONGER.to(getattr(torch, dtype))
    given = x.float().numpy().astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else x.numpy()
    with np.errstate(invalid="ignore"):  # of 0 / 0, where Torch's own sinc takes the other branch
        (evaluated,) = ReferenceEvaluator(proto).run(None, {"x": given})
    results = [torch.from_numpy(np.asarray(evaluated, np.float64))]
    if dtype in ("float16", "float32"):  # the others have no convolution on CPU
        for used in KERNELS if kernels else [None]:
            results += run(proto.SerializeToString(), {"x": x}, used).values()
    wanted = speech.double()(x.double()).detach()
    limit = TOLERANCES[dtype]
    for result in results:
        torch.testing.assert_close(result.double(), wanted, rtol=limit, atol=limit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_are_found_deep_inside_a_network(speech, dtype):
    kind = getattr(torch, dtype)
    model = exported(speech.to(kind), {"x": AUDIO.to(kind)}, 23, dynamic_shapes=SHAPES)
    check_speech(speech, model, dtype)


def test_torch_s_own_pi_shows_in_the_network_s_output(speech):
    model = exported(speech.double(), {"x": AUDIO}, table=None, dynamic_shapes=SHAPES)
    with pytest.raises(AssertionError, match="not close"):
        check_speech(speech, model, "float64")


def test_deep_inside_they_are_nodes_in_to_onnx(speech, dtype):
    kind = getattr(torch, dtype)
    model = to_onnx(speech.to(kind), {"x": AUDIO.to(kind)}, dynamic_shapes=SHAPES, opset=22)
    ours = [node.op_type for node in model.graph if node.domain == DOMAIN]
    assert ours == ["Sinc", "Sinc", "GLU", "Swish", "Swish", "Sinc"]
    check_speech(speech, model, dtype, kernels=True)


def test_fuse_finds_swiglu_in_it_afterwards(speech):
    model = exported(speech, {"x": AUDIO.float()}, dynamic_shapes=SHAPES)
    fuse(model)
    ours = [node.op_type for node in model.graph if node.domain == DOMAIN]
    # Torch has computed the filters: they depend on no input.
    assert ours == ["GLU", "Swish", "SwiGLULinear", "Sinc"]
    check_speech(speech, model, "float32", kernels=True)


class Corners(nn.Module):
    """Cases that Torch itself prepares before it looks for a translation."""

    def forward(self, x):
        changed = x.clone()
        functional.silu(changed, inplace=True)
        return (
            changed,
            torch.special.sinc(x),
            torch.sinc((4 * x).int()),
            torch.sinc(x > 0),
            torch.sinc(x[0, 0, 0]),
            functional.silu(x[:0]),
            functional.glu(x[..., :0]),
            *(functional.glu(x, dim) for dim in (0, 1, 2, -1, -2, -3)),
            torch.cond(x.sum() > 0, torch.sinc, functional.silu, (x,)),
        )


@pytest.mark.parametrize("export_it", [exported, to_onnx])
@pytest.mark.parametrize("sign", [1, -1])
def test_corners_are_as_torch_has_them(export_it, sign):
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3))
    model = export_it(Corners(), {"x": x})
    x = sign * x.abs()
    for result, wanted in zip(run(content(model), {"x": x}).values(), Corners()(x), strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-6, atol=2e-7)


class Mixed(nn.Module):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.float16):
            return functional.silu(x @ x.mT)


@pytest.mark.parametrize("export_it", [exported, to_onnx])
def test_under_autocast_they_have_the_dtype_that_they_are_given(export_it):
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3))
    (result,) = run(content(export_it(Mixed(), {"x": x})), {"x": x}).values()
    torch.testing.assert_close(result, Mixed()(x), rtol=2e-3, atol=2e-3)


def test_at_infinity_sinc_is_its_limit():
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0])
    (result,) = run(content(exported(Sinc(), {"x": x})), {"x": x}).values()
    torch.testing.assert_close(result, torch.tensor([0.0, 0.0, torch.nan, 1.0]), equal_nan=True)


@onnxscript.script(onnxscript.values.Opset(DOMAIN, 1), default_opset=opset18)
def Swish(x: FLOAT[...]) -> FLOAT[...]:
    return x * opset18.Sigmoid(x)


@pytest.mark.parametrize("optimize", [False, True])
def test_torch_writes_functions_of_a_table_out(optimize):
    """If this test fails, a table can give nodes with bodies, and `torch_translations` should."""
    table = {torch.ops.aten.silu.default: Swish}
    model = exported(nn.SiLU(), {"x": torch.ones(2)}, 18, table, optimize=optimize)
    assert not model.functions
    assert {node.domain for node in model.graph} == {""}


def test_a_dtype_that_is_none_of_ours_is_named():
    with pytest.raises(TypeError, match=r"x: expected one of float16, .*, not INT8"):
        dtype_of(ir.Value(name="x", type=ir.TensorType(ir.DataType.INT8)))


def test_export_has_the_name_and_no_other():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = export.nothing_of_the_kind
