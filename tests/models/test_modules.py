"""Torch modules and explicit derivatives: correct in all dtypes, on any shape."""

import pytest
import torch

from gatewave.export.accuracy import certify, reference
from gatewave.graphs.ops import signature


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (2, 0, 3)], ids=str)
def test_results_have_the_shape_and_the_dtype_of_the_inputs(
    module, operator, activation, shape, dtype
):
    tensors = [torch.rand(shape).to(getattr(torch, dtype)) for _ in activation.inputs]
    for result in (module(*tensors), *operator.derivative(*tensors)):
        assert result.shape == shape
        assert result.dtype == tensors[0].dtype


def test_a_strided_view_gives_what_its_copy_gives(module, activation):
    views = [torch.linspace(-6, 6, 48).reshape(4, 12)[:, ::3].T for _ in activation.inputs]
    assert not views[0].is_contiguous()
    torch.testing.assert_close(module(*views), module(*(view.clone() for view in views)))


def test_module_is_within_the_tolerance_of_its_record(case, module, dtype):
    inputs = reference.samples(case[0], "value", dtype)
    results = {"y": module(*inputs).detach()}
    assert_within_tolerance(case, "value", dtype, inputs, results)


def test_explicit_derivative_is_within_the_tolerance_of_its_record(case, dtype):
    activation, operator = case
    inputs = reference.samples(activation, "grad", dtype)
    names = signature.outputs(activation, "grad")[1:]
    results = dict(zip(names, operator.derivative(*inputs), strict=True))
    assert_within_tolerance(case, "grad", dtype, inputs, results)


def assert_within_tolerance(case, graph, dtype, inputs, results):
    activation, operator = case
    names = signature.outputs(activation, graph)
    wanted = dict(zip(names, reference.exact(activation, operator, graph, inputs), strict=True))
    scale = certify.scale_of(
        operator, dict(zip(signature.inputs(activation, graph), inputs, strict=True))
    )
    infinite = torch.stack(inputs).isinf().any(dim=0)
    for name, result in results.items():
        tolerance = certify.tolerance_of(operator, name, dtype)
        _, measured = certify.measure(result, wanted[name], tolerance, scale, infinite)
        assert measured.used <= 1, (name, measured)


def test_integers_are_refused_rather_than_cut(module, activation):
    with pytest.raises(TypeError, match=r"floating tensors, not torch\.int64"):
        module(*(torch.tensor([1, 2]) for _ in activation.inputs))


def test_mixed_dtypes_give_what_torch_would_promote_them_to(module, activation):
    kinds = [torch.float64, torch.float32][: len(activation.inputs)]
    tensors = [torch.tensor([0.5]).to(kind) for kind in kinds]
    assert module(*tensors).dtype == torch.float64


def test_tensors_may_be_given_by_name(module, activation):
    named = {name: torch.tensor([0.5, 2.0], dtype=torch.float16) for name in activation.inputs}
    assert torch.equal(module(**named), module(*named.values()))
