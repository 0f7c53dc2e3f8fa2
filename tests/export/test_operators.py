"""Graphs of the records: valid, portable, reproducible, of any rank, and equal in both forms."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from expected import check_within, expectation
from onnx.reference import ReferenceEvaluator

from gatewave.export.accuracy import certify, reference
from gatewave.export.operators import IR_VERSION, OPSET, decomposed, to_bytes, with_rank
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.models import ACTIVATIONS

ROOT = Path(__file__).parents[2]


def test_it_is_one_node_of_our_domain_with_its_body(model, operator, graph):
    (node,) = model.graph
    (function,) = model.functions.values()
    assert (node.domain, node.op_type) == (DOMAIN, signature.op_type(operator, graph))
    assert function.identifier() == node.op_identifier()
    assert {step.domain for step in function} == {""}


def test_checker_accepts_it_in_both_forms(model):
    for form in (model, decomposed(model)):
        onnx.checker.check_model(onnx.load_from_string(to_bytes(form)), full_check=True)


def test_it_uses_what_travels_furthest(model):
    assert model.opset_imports[""] == OPSET == 17
    assert model.ir_version == IR_VERSION == 8


def test_inputs_and_outputs_have_the_names_and_the_dtype_of_the_record(
    model, activation, operator, graph, dtype
):
    kind = {
        "float16": ir.DataType.FLOAT16,
        "bfloat16": ir.DataType.BFLOAT16,
        "float32": ir.DataType.FLOAT,
        "float64": ir.DataType.DOUBLE,
    }[dtype]
    names = [value.name for value in model.graph.inputs]
    outputs = [value.name for value in model.graph.outputs]
    assert names == [*signature.inputs(activation, graph), *operator.reals]
    assert outputs == list(signature.outputs(activation, graph))
    tensors = model.graph.inputs[: len(signature.inputs(activation, graph))]
    assert {value.dtype for value in (*tensors, *model.graph.outputs)} == {kind}
    assert set(operator.reals) <= set(model.graph.initializers)


def test_decomposed_form_has_standard_operators_only(model):
    flat = decomposed(model)
    assert not flat.functions
    assert set(flat.opset_imports) == {""}
    assert {node.domain for node in flat.graph} == {""}
    assert all(onnx.defs.has(node.op_type, OPSET, "") for node in flat.graph)


def test_decomposed_form_keeps_its_numbers_where_every_reader_finds_them(model):
    flat = onnx.load_from_string(to_bytes(decomposed(model)))
    assert all(node.op_type != "Constant" for node in flat.graph.node)
    assert all(tensor.raw_data for tensor in flat.graph.initializer)


def test_decomposing_a_model_leaves_it_as_it_was(exported):
    model = exported("sinc")["grad", "float32"]
    before = to_bytes(model.clone())
    decomposed(model)
    assert to_bytes(model) == before


def test_both_forms_give_the_same_bits(model, activation, graph, dtype):
    names = signature.inputs(activation, graph)
    inputs = dict(zip(names, reference.samples(activation, graph, dtype), strict=True))
    whole = certify.run(to_bytes(model), inputs)
    flat = certify.run(to_bytes(decomposed(model)), inputs)
    for name, result in whole.items():
        torch.testing.assert_close(flat[name], result, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_16_bit_floats_are_computed_in_float32_inside(models, graph, narrow):
    (function,) = models[graph, narrow].functions.values()
    constants = [n.attributes["value"].value for n in function if n.op_type == "Constant"]
    assert {constant.dtype for constant in constants} <= {ir.DataType.FLOAT}
    assert all(
        value.producer().op_type == "Cast"
        and value.producer().attributes["to"].value == narrow_type(narrow)
        for value in function.outputs
    )


def narrow_type(dtype):
    return {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}[dtype]


def test_float64_sinc_holds_pi_in_float64(exported):
    content = to_bytes(exported("sinc")["value", "float64"])
    assert np.float64(np.pi).tobytes() in content
    assert np.float64(np.float32(np.pi)).tobytes() not in content


SHAPES = {None: [(), (5,), (2, 3, 4), (0, 2)], 0: [()], 1: [(5,), (0,)], 3: [(2, 3, 4), (1, 0, 2)]}


@pytest.mark.parametrize(
    ("rank", "shape"), [(rank, shape) for rank, shapes in SHAPES.items() for shape in shapes]
)
def test_onnx_runtime_runs_it_with_tensors_of_the_rank_asked_for(
    models, activation, operator, rank, shape
):
    inputs = {name: torch.full(shape, 0.75) for name in activation.inputs}
    results = certify.run(
        to_bytes(with_rank(models["grad", "float32"], rank), checked=rank is not None), inputs
    )
    wanted = [operator.build()(*inputs.values()), *operator.derivative(*inputs.values())]
    for result, want in zip(results.values(), wanted, strict=True):
        torch.testing.assert_close(result, want, rtol=1e-5, atol=1e-6)


def test_declared_rank_is_that_asked_for(model):
    shapes = {rank: with_rank(model, rank).graph.outputs[0].shape for rank in (0, 3, None)}
    assert (len(shapes[0]), len(shapes[3]), shapes[None]) == (0, 3, None)


def test_reals_stay_scalar_whatever_the_rank(exported):
    model = with_rank(exported("swish")["value", "float32"], 3)
    assert [len(value.shape) for value in model.graph.inputs] == [3, 0]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.702, -1.0, 30.0], ids=str)
@pytest.mark.parametrize("stem", ["swish", "swiglu-linear"])
def test_alpha_is_an_input_that_overrides_its_default(exported, stem, alpha, dtype):
    (activation, operator), kind = of(stem), getattr(torch, dtype)
    tensors = {n: torch.linspace(-6, 6, 97).to(kind).roll(i) for i, n in enumerate(("a", "b"))}
    tensors = dict(zip(activation.inputs, tensors.values(), strict=False))
    scalar = torch.tensor(alpha, dtype=torch.float64 if dtype == "float64" else torch.float32)
    results = certify.run(to_bytes(exported(stem)["grad", dtype]), {**tensors, "alpha": scalar})
    exact = reference.definition(activation, operator, alpha=scalar.item())
    rows = zip(*(tensor.tolist() for tensor in tensors.values()), strict=True)
    wanted = torch.tensor([[float(v) for v in exact(*row)] for row in rows], dtype=torch.float64).T
    scale = certify.scale_of(operator, tensors, {"alpha": alpha})
    for (name, result), want in zip(results.items(), wanted, strict=True):
        tolerance = certify.tolerance_of(operator, name, dtype)
        allowed = certify.allowance(want, tolerance, scale, torch.finfo(kind))
        assert ((result.double() - want).abs() <= allowed).all(), name


def of(stem):
    return next(
        (activation, operator)
        for activation in ACTIVATIONS.values()
        for operator in activation.operators
        if activation.stem(operator) == stem
    )


def test_onnx_s_own_reference_implementation_agrees(models, activation, operator, graph):
    model = onnx.load_from_string(to_bytes(models[graph, "float32"]))
    expected = expectation(activation, operator, graph, "float32")
    with np.errstate(all="ignore"):  # NumPy remarks on infinities and NaN, which are meant
        results = ReferenceEvaluator(model).run(
            None, {n: t.numpy() for n, t in expected.inputs.items()}
        )
    tensors = dict(zip(expected.wanted, map(torch.tensor, results), strict=True))
    check_within(operator, "float32", tensors, expected)


STEMS = ["sinc", "swiglu-linear", "geglu-none"]
EXPORT = """
import hashlib, json, sys
from gatewave.export.operators import decomposed, graphs_of, to_bytes
from gatewave.models import ACTIVATIONS
print(json.dumps({
    f"{activation.stem(operator)} {graph} {dtype} {form}": hashlib.sha256(content).hexdigest()
    for activation in ACTIVATIONS.values()
    for operator in activation.operators
    if activation.stem(operator) in sys.argv
    for (graph, dtype), model in graphs_of(activation, operator, ["float32"]).items()
    for form, content in [("function", to_bytes(model)), ("flat", to_bytes(decomposed(model)))]
}))
"""


def test_another_process_exports_the_same_bytes(exported):
    ended = subprocess.run(
        [sys.executable, "-c", EXPORT, *STEMS],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    found = json.loads(ended.stdout)
    assert len(found) == len(STEMS) * 3 * 2
    for key, digest in found.items():
        stem, graph, dtype, form = key.split()
        model = exported(stem)[graph, dtype]
        content = to_bytes(model if form == "function" else decomposed(model))
        assert hashlib.sha256(content).hexdigest() == digest, key
