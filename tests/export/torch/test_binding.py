"""Named examples, bound to the parameters of a module's forward."""

import pytest
import torch
from torch import nn
from torch.export import Dim

from gatewave.export.errors import ArgumentsError
from gatewave.export.torch.binding import bind

ONE, TWO, THREE = torch.ones(3, 1), torch.ones(3, 2), torch.ones(3, 3)
ROWS = Dim("rows")


class Plain(nn.Module):
    def forward(self, x, y, scale=None): ...


class KeywordOnly(nn.Module):
    def forward(self, x, *, scale): ...


class Variadic(nn.Module):
    def forward(self, x, *rest, **options): ...


class PassesOn(nn.Module):
    def forward(self, *args, **kwargs): ...


class KeywordsOnly(nn.Module):
    def forward(self, **kwargs): ...


class OwnCall(nn.Module):
    def __call__(self, first, second):
        return super().__call__(second, first)

    def forward(self, x, y): ...


CALLS = [
    (Plain, {"x": ONE, "y": TWO}, (ONE, TWO), {}),
    (Plain, {"y": TWO, "x": ONE}, (ONE, TWO), {}),
    (Plain, {"scale": THREE, "y": TWO, "x": ONE}, (ONE, TWO, THREE), {}),
    (Plain, {"a": ONE, "b": TWO}, (ONE, TWO), {}),
    (KeywordOnly, {"scale": TWO, "x": ONE}, (ONE,), {"scale": TWO}),
    (Variadic, {"mask": TWO, "x": ONE}, (ONE,), {"mask": TWO}),
    (Variadic, {"a": ONE, "b": TWO, "c": THREE}, (ONE, TWO, THREE), {}),
    (PassesOn, {"a": ONE, "b": TWO}, (ONE, TWO), {}),
    (KeywordsOnly, {"a": ONE, "b": TWO}, (), {"a": ONE, "b": TWO}),
    (OwnCall, {"second": TWO, "first": ONE}, (ONE, TWO), {}),
]


@pytest.mark.parametrize(("module", "arguments", "args", "kwargs"), CALLS)
def test_names_bind_as_a_call_binds_them(module, arguments, args, kwargs):
    bound = bind(module(), arguments)
    assert [id(tensor) for tensor in bound.args] == [id(tensor) for tensor in args]
    assert bound.kwargs.keys() == kwargs.keys()
    assert all(bound.kwargs[name] is tensor for name, tensor in kwargs.items())
    assert bound.given == tuple(arguments)
    assert [arguments[name] is t for name, t in zip(bound.names, bound.tensors, strict=True)]


def test_an_omitted_default_has_what_follows_passed_by_keyword():
    class Gap(nn.Module):
        def forward(self, x, mask=None, scale=None): ...

    bound = bind(Gap(), {"x": ONE, "scale": TWO})
    assert bound.args == (ONE,)
    assert bound.kwargs == {"scale": TWO}


def test_nested_tensors_are_named_as_torch_names_them():
    bound = bind(Plain(), {"y": {"mask": ONE}, "x": [TWO, (THREE,)]})
    assert bound.names == ("x_0", "x_1_0", "y_mask")
    assert bound.given == ("y_mask", "x_0", "x_1_0")
    args, _ = bound.filled([ONE, TWO, THREE])
    assert args[0][0] is ONE
    assert args[1]["mask"] is THREE


REFUSED = [
    (Plain, {"x": ONE, "z": TWO}, r"'z': no such parameter .*'x', 'y', 'scale'.* got 'x', 'z'"),
    (Plain, {"x": ONE}, "parameter 'y' is not given"),
    (Plain, {"a": ONE}, "parameter 'y' is not given"),
    (Plain, {"a": ONE, "b": ONE, "c": ONE, "d": ONE}, r"takes 3 by position .* got 4"),
    (KeywordOnly, {"a": ONE, "b": ONE}, r"takes 1 by position \('x'\), got 2"),
    (Plain, {"x": ONE, "y": 3}, r"y is int 3: expected a tensor"),
    (Plain, {"x": [ONE, None], "y": TWO}, r"x\[1\] is None: expected a tensor"),
    (PassesOn, {"y": {"z": ONE}, "y_z": ONE}, "two inputs would have the name 'y_z'"),
    (Plain, {1: ONE}, "expected names that are words, got 1"),
    (Plain, [ONE], "expected a mapping"),
]


@pytest.mark.parametrize(("module", "arguments", "message"), REFUSED)
def test_what_does_not_fit_is_named(module, arguments, message):
    with pytest.raises(ArgumentsError, match=message):
        bind(module(), arguments)


SHAPES = [
    (Plain, {"y": TWO, "x": ONE}, {"x": {0: ROWS}}, {"x": {0: ROWS}, "y": None}),
    (Plain, {"y": TWO, "x": ONE}, ({0: ROWS}, None), {"x": None, "y": {0: ROWS}}),
    (Plain, {"a": ONE, "b": TWO}, {"b": {0: ROWS}}, {"x": None, "y": {0: ROWS}}),
    (Plain, {"a": ONE, "b": TWO}, {"y": {0: ROWS}}, {"x": None, "y": {0: ROWS}}),
    (Plain, {"a": ONE, "b": TWO}, [None, (ROWS, 2)], {"x": None, "y": (ROWS, 2)}),
    (PassesOn, {"a": ONE, "b": TWO}, (({0: ROWS}, None),), {"args": ({0: ROWS}, None)}),
    (PassesOn, {"a": ONE, "b": TWO}, ({0: ROWS}, None), {"args": ({0: ROWS}, None)}),
    (PassesOn, {"a": ONE, "b": TWO}, {"args": (None, {0: ROWS})}, {"args": (None, {0: ROWS})}),
    (PassesOn, {"a": ONE}, ((ROWS, 1),), {"args": ((ROWS, 1),)}),
]


@pytest.mark.parametrize(("module", "arguments", "shapes", "expected"), SHAPES)
def test_dynamic_shapes_go_by_the_names_given_or_by_those_of_forward(
    module, arguments, shapes, expected
):
    assert bind(module(), arguments, shapes).dynamic_shapes == expected


@pytest.mark.parametrize("shapes", [{"z": {0: ROWS}}, ({0: ROWS},)])
def test_dynamic_shapes_that_fit_no_input_are_refused(shapes):
    with pytest.raises(ArgumentsError, match=r"dynamic_shapes: expected .*'a', 'b'"):
        bind(Plain(), {"a": ONE, "b": TWO}, shapes)
