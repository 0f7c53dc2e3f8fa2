"""First run of a model."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import helper, model, numpy_helper, port, reshaped, unary

from gatewave.service.errors import ModelRefused
from gatewave.service.repository.config import parse
from gatewave.service.repository.trial.warmup import warm_up


def test_sizes_are_raised_until_one_fits(open_model):
    made = open_model(reshaped())
    assert warm_up(made, parse("")) == {"x": (1, 6)}
    assert warm_up(made, parse("warmup: {x: [2, 3]}")) == {"x": (2, 3)}
    assert warm_up(made, parse("warmup: off")) == {}
    with pytest.raises(ModelRefused, match=r"tried with x \[2, 2\]: set other shapes"):
        warm_up(made, parse("warmup: {x: [2, 2]}"))


def test_models_that_refuse_zeros_get_ones(open_model):
    table = numpy_helper.from_array(np.array([1], np.int64), "one")
    nodes = [
        helper.make_node("Sub", ["x", "one"], ["index"]),
        helper.make_node("Add", ["index", "index"], ["wide"]),
        helper.make_node("Gather", ["one", "wide"], ["y"]),
    ]
    ports = [port("x", ("n",), TensorProto.INT64)], [port("y", None, TensorProto.INT64)]
    warm_up(open_model(model(nodes, *ports, [table])), parse(""))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{y: [1]}", "warmup.y: expected only x"),
        ("{x: [1]}", r"warmup.x: expected \[-1, 2\], where -1 is any size, got \[1\]"),
        ("{x: [1, 3]}", r"warmup.x: expected \[-1, 2\]"),
    ],
)
def test_impossible_shapes_are_refused(open_model, said, why):
    with pytest.raises(ModelRefused, match=why):
        warm_up(open_model(unary("Neg")), parse(f"warmup: {said}"))
