"""Every activation of torch.nn and every elementwise function of torch.nn.functional, exported.

The lists are Torch's own. A function that is new in Torch fails the first test until it has a case
here, or a reason for its absence. All cases of a dtype are one model, because an export takes most
of a second. A graph that fails then fails them all; the saved minute is worth that.
"""

import functools
import types

import mpmath
import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional
from torch.nn.modules import activation as torch_activations

from gatewave import export
from gatewave.export.accuracy.certify import measure, run
from gatewave.export.accuracy.reference import Exact
from gatewave.export.torch.module_graphs import flattened, partials
from gatewave.export.torch.trace import trace
from gatewave.models.bounds import SLOPE

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:# The axis name:UserWarning"),
    pytest.mark.filterwarnings("ignore:Implicit dimension choice:UserWarning"),
]

NOT_ELEMENTWISE = {
    "GLU": "halves its input; its record takes the halves",
    "LogSoftmax": "normalises over an axis",
    "MultiheadAttention": "is a network",
    "Softmax": "normalises over an axis",
    "Softmax2d": "normalises over an axis",
    "Softmin": "normalises over an axis",
}
WITH_ARGUMENTS = {"Threshold": (0.1, 20.0)}
MODULES = [n for n in torch_activations.__all__ if n not in {**NOT_ELEMENTWISE, **WITH_ARGUMENTS}]

FUNCTIONS = {
    "celu": [functional.celu, functools.partial(functional.celu, alpha=0.3)],
    "elu": [functional.elu, functools.partial(functional.elu, alpha=0.3)],
    "gelu": [functional.gelu, functools.partial(functional.gelu, approximate="tanh")],
    "glu": [lambda x: functional.glu(torch.stack([x, x + 0.5], -1)).squeeze(-1)],
    "hardshrink": [functional.hardshrink],
    "hardsigmoid": [functional.hardsigmoid],
    "hardswish": [functional.hardswish],
    "hardtanh": [functional.hardtanh, functools.partial(functional.hardtanh, max_val=0.7)],
    "leaky_relu": [
        functional.leaky_relu,
        functools.partial(functional.leaky_relu, negative_slope=0.1),
    ],
    "logsigmoid": [functional.logsigmoid],
    "mish": [functional.mish],
    "prelu": [lambda x: functional.prelu(x, torch.full((1,), 0.25, dtype=x.dtype))],
    "relu": [functional.relu],
    "relu6": [functional.relu6],
    "rrelu": [functools.partial(functional.rrelu, lower=0.1, upper=0.3)],
    "selu": [functional.selu],
    "sigmoid": [functional.sigmoid],
    "silu": [functional.silu],
    "softplus": [
        functional.softplus,
        functools.partial(functional.softplus, beta=0.7, threshold=5),
    ],
    "softshrink": [functional.softshrink],
    "softsign": [functional.softsign],
    "tanh": [functional.tanh],
    "tanhshrink": [functional.tanhshrink],
    "threshold": [functools.partial(functional.threshold, threshold=0.1, value=20.0)],
}

NO_CASE = {
    "a loss of two tensors": """
        binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy
        ctc_loss gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss
        linear_cross_entropy margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss
        multilabel_soft_margin_loss nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss
        triplet_margin_loss triplet_margin_with_distance_loss""",
    "random": """
        alpha_dropout dropout dropout1d dropout2d dropout3d feature_alpha_dropout gumbel_softmax""",
    "over an axis, a window, or with weights": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool1d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices
        adaptive_max_pool3d adaptive_max_pool3d_with_indices affine_grid avg_pool1d avg_pool2d
        avg_pool3d batch_norm bilinear channel_shuffle conv1d conv2d conv3d conv_tbc
        conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity embedding embedding_bag
        fold fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d
        fractional_max_pool3d_with_indices grid_sample group_norm grouped_mm instance_norm
        interpolate layer_norm linear local_response_norm log_softmax lp_pool1d lp_pool2d lp_pool3d
        max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
        max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d multi_head_attention_forward
        native_channel_shuffle normalize one_hot pad pairwise_distance pdist pixel_shuffle
        pixel_unshuffle rms_norm scaled_dot_product_attention scaled_grouped_mm scaled_mm softmax
        softmin unfold upsample upsample_bilinear upsample_nearest""",
    "Torch's own tools": """
        assert_int_or_pair boolean_dispatch handle_torch_function has_torch_function
        has_torch_function_unary has_torch_function_variadic""",
}

OTHERS = {
    "add": [lambda x: torch.add(0.1 * x, x, alpha=0.7)],
    "addcdiv": [lambda x: torch.addcdiv(x, x, x * x + 1, value=0.1)],
    "clamp": [functools.partial(torch.clamp, min=0.1), functools.partial(torch.clamp, max=1)],
    "clamp twice": [lambda x: x.clamp(-0.3, 0.7) + x.clamp(0.1, 0.3)],
    "elu_backward's own": [lambda x: torch.ops.aten.elu(x, 1.3, 0.7, 1.1)],
    "erf": [torch.erf],
    "erfc": [torch.erfc, torch.special.erfc],
    "exp2": [torch.exp2],
    "expm1": [torch.expm1, torch.special.expm1],
    "fill": [lambda x: torch.full_like(x, 0.1) + x.masked_fill(x > 1, 0.3)],
    "log1p": [lambda x: torch.log1p(x.abs()), lambda x: torch.special.log1p(x.abs())],
    "log2": [lambda x: torch.log2(x.abs()), lambda x: torch.log10(x.abs())],
    "log_ndtr": [torch.special.log_ndtr],
    "logaddexp": [lambda x: torch.logaddexp(x, 2 * x), lambda x: torch.logaddexp(x, x)],
    "logaddexp2": [lambda x: torch.logaddexp2(x, 2 * x)],
    "logit": [torch.logit, torch.special.logit, functools.partial(torch.logit, eps=0.125)],
    "logsumexp": [lambda x: torch.logsumexp(torch.stack([x, 2 * x], -1), -1)],
    "ndtr": [torch.special.ndtr],
    "rad2deg": [torch.rad2deg, torch.deg2rad],
    "remainder": [
        lambda x: torch.remainder(x, 3),
        lambda x: torch.remainder(x, -3),
        lambda x: torch.remainder(2.5, x),
    ],
    "where": [lambda x: torch.where(x > 0.1, x, 0.1)],
}

ONCE_ROUNDED = {"erf", "expm1", "log_ndtr", "logit", "ndtr"}
TWICE_ROUNDED = {"softsign", "tanhshrink", *OTHERS} - ONCE_ROUNDED
"""Cases of several operators, each of which rounds 16-bit floats, in Torch as well."""


def test_every_activation_and_function_of_torch_has_a_case_or_a_reason():
    named = {*MODULES, *WITH_ARGUMENTS, *NOT_ELEMENTWISE}
    assert named == set(torch_activations.__all__)
    excused = {name for names in NO_CASE.values() for name in names.split()}
    there = {
        name
        for name, value in vars(functional).items()
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType)
        and not name.startswith("_")
        and not name.endswith("_")  # in place
    }
    assert there <= {*FUNCTIONS, *excused}, "a new function: give it a case, or a reason"
    assert {*FUNCTIONS} <= there


class Together(nn.Module):
    """Module that applies many functions to one input."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        return tuple(function(x) for function in self.functions)


ALL = {
    f"{name}_{index}": function
    for name, functions in (FUNCTIONS | OTHERS).items()
    for index, function in enumerate(functions)
}


def line(dtype):
    """Return every value of a 16-bit float, or a grid with integers and special values."""
    kind = getattr(torch, dtype)
    if kind.itemsize == 2:
        return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(kind)
    special = [0.0, -0.0, 1e-30, 1e-12, 1e-5, 89, 93, 100, 710, 1e4, 1e30, torch.inf, torch.nan]
    points = [torch.linspace(-12, 12, 601), torch.arange(-40.0, 41.0), torch.tensor(special)]
    return torch.cat([*points, -torch.tensor(special)]).to(kind)


@functools.cache
def exported(dtype):
    """Return one model of all cases, exported by Torch with the table."""
    names = [name for name in ALL if dtype[-2:] != "16" or name[:-2] not in TWICE_ROUNDED]
    model = torch.onnx.export(
        Together([ALL[name] for name in names]).eval(),
        (line(dtype),),
        input_names=["x"],
        output_names=names,
        dynamo=True,
        opset_version=18,
        custom_translation_table=export.torch_translations(),
        verbose=False,
    ).model
    return ir.to_proto(model)


@functools.cache
def results(dtype):
    """Return results by name; bfloat16 by the reference evaluator, for lack of other kernels."""
    proto, x = exported(dtype), line(dtype)
    if dtype != "bfloat16":
        return run(proto.SerializeToString(), {"x": x})
    given = ir.tensor(x).numpy()
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(proto).run(None, {"x": given})
    pairs = zip([output.name for output in proto.graph.output], found, strict=True)
    return {n: torch.from_numpy(f.astype(np.float32)).to(x.dtype) for n, f in pairs}


def check(got, want, x, tolerances):
    """Check the results against float64, within bounds like those of the records."""
    want = want.detach()
    tolerance = tolerances[str(got.dtype).removeprefix("torch.")]
    scale = x.double().abs().nan_to_num(1.0, 1.0).clamp(1.0)
    exact = Exact(want, torch.zeros_like(want))
    share, _ = measure(got, exact, tolerance, scale, x.isinf())
    worst = int(share.argmax())
    found = f"at {float(x[worst])!r}: {float(got[worst])!r}, not {float(want[worst])!r}"
    assert float(share[worst]) <= 1, found


@pytest.mark.parametrize("name", ALL)
def test_with_the_table_a_function_is_right_in_every_dtype(name, dtype):
    if name in results(dtype):
        x = line(dtype)
        check(results(dtype)[name], ALL[name](x.double()), x, SLOPE)
    else:
        assert name[:-2] in TWICE_ROUNDED


@functools.cache
def slopes(dtype):
    """Return the value and the slope of every module, by ONNX Runtime, from one model."""
    built = [build(name) for name in [*MODULES, *WITH_ARGUMENTS]]
    module = Together([flattened(one, dtype, 1) for one in built])
    model = trace(module, {"x": line(dtype)}, (), translations=export.torch_translations())
    found = list(run(ir.to_proto(model).SerializeToString(), {"x": line(dtype)}).values())
    pairs = zip(found[::2], found[1::2], strict=True)
    return dict(zip([*MODULES, *WITH_ARGUMENTS], pairs, strict=True))


def build(name):
    return functools.partial(getattr(nn, name), *WITH_ARGUMENTS.get(name, ()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*MODULES, *WITH_ARGUMENTS])
def test_a_module_s_value_and_slope_are_those_of_autograd(name, dtype):
    # At NaN slopes of functions with kinks are arbitrary, in Torch too.
    there = ~line(dtype).isnan()
    x = line(dtype)[there]
    value, slope = slopes(dtype)[name]
    check(value[there], build(name)().double().eval()(x.double()), x, SLOPE)
    check(slope[there], partials(build(name), [x.double()])[0], x, SLOPE)


@pytest.mark.parametrize("name", [*MODULES, *WITH_ARGUMENTS])
def test_slopes_by_formula_are_autograd_s_but_for_its_float32_constants(name):
    x = line("float64")
    leaf = x.clone().requires_grad_()
    (given,) = torch.autograd.grad(build(name)().double().eval()(leaf).sum(), leaf)
    torch.testing.assert_close(
        partials(build(name), [x])[0], given, rtol=1e-6, atol=1e-6, equal_nan=True
    )


GAUSSIAN = {
    "gelu": (functional.gelu, lambda t: t * mpmath.ncdf(t)),
    "erfc": (torch.erfc, mpmath.erfc),
    "log_ndtr": (torch.special.log_ndtr, lambda t: mpmath.log(mpmath.ncdf(t))),
    "logsigmoid": (functional.logsigmoid, lambda t: -mpmath.log1p(mpmath.exp(-t))),
    "softplus": (functional.softplus, lambda t: mpmath.log1p(mpmath.exp(t))),
    "mish": (functional.mish, lambda t: t * mpmath.tanh(mpmath.log1p(mpmath.exp(t)))),
    "elu": (functional.elu, lambda t: mpmath.expm1(min(t, 0)) + max(t, 0)),
    "erf": (torch.erf, mpmath.erf),
}


@pytest.mark.parametrize("name", GAUSSIAN)
def test_in_float64_tails_keep_their_digits(name):
    _, exactly = GAUSSIAN[name]
    x = line("float64")
    (got,) = [results("float64")[key] for key in ALL if key == f"{name}_0"]
    near = [i for i, value in enumerate(x.tolist()) if 1e-20 < abs(value) <= 12]
    with mpmath.workdps(60):
        want = [float(exactly(mpmath.mpf(float(x[i])))) for i in near]
    torch.testing.assert_close(got[near].tolist(), want, rtol=1e-12, atol=0)
