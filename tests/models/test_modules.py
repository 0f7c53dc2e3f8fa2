"""Torch modules and explicit derivatives: correct in all dtypes, on any shape."""

import dataclasses

import pytest
import torch
from expected import check_within, expectation

from gatewave.models import ACTIVATIONS
from gatewave.models.torch.ops import FLOAT32, FLOAT64


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
    expected = expectation(*case, "value", dtype)
    results = {"y": module(*expected.inputs.values()).detach()}
    check_within(case[1], dtype, results, expected)


def test_explicit_derivative_is_within_the_tolerance_of_its_record(case, dtype):
    activation, operator = case
    expected = expectation(activation, operator, "grad", dtype)
    partials = operator.derivative(*expected.inputs.values())
    del expected.wanted["y"]
    results = dict(zip(expected.wanted, partials, strict=True))
    check_within(operator, dtype, results, expected)


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


@pytest.fixture
def derived(operator):
    """The module that a record gets if it names none."""
    return dataclasses.replace(operator, module=None).build()


def test_a_derived_module_computes_what_the_module_of_the_record_computes(derived, module, points):
    torch.testing.assert_close(derived(*points), module(*points), rtol=1e-13, atol=1e-14)


def test_a_derived_module_takes_tensors_by_name_and_no_others(derived, activation):
    named = dict.fromkeys(activation.inputs, torch.tensor([0.5]))
    assert torch.equal(derived(**named), derived(*named.values()))
    with pytest.raises(TypeError, match="takes the tensors"):
        derived(*named.values(), q=torch.tensor([0.5]))


def test_settings_of_a_derived_module_are_the_choice_and_the_reals():
    operator = dataclasses.replace(ACTIVATIONS["swiglu"].operators[1], module=None)
    module = operator.build(alpha=2.0)
    assert (module.alpha, module.gate, operator.matches(module)) == (2.0, "linear", True)
    with pytest.raises(TypeError, match="SwiGLULinear takes no beta"):
        operator.build(beta=1.0)


def test_operators_are_the_elementwise_functions_of_torch():
    assert FLOAT32.Atan is torch.atan
    with pytest.raises(AttributeError, match="add a method Mean to TorchOps"):
        _ = FLOAT32.Mean


def test_a_choice_between_two_numbers_keeps_the_digits_of_float64():
    chosen = FLOAT64.Where(torch.tensor([True, False]), 0.1, 0.2)
    assert chosen.tolist() == [0.1, 0.2]
