"""Record in the metadata of a file: the round trip, and its example."""

import json

import onnx
import pytest
import torch

from gatewave.export.accuracy.certify import run
from gatewave.export.metadata import KEY, SCHEMA, derivatives, describe, formula
from gatewave.export.operators import FORMS, decomposed, to_bytes
from gatewave.graphs.ops import signature
from gatewave.models import ACTIVATIONS


@pytest.fixture(params=FORMS)
def described(request, model, activation, operator, graph, dtype):
    """Return the bytes of a model with its record, and the record that is read from them."""
    form = request.param
    formed = decomposed(model) if form == "decomposed" else model
    describe(formed, activation, operator, graph=graph, dtype=dtype, form=form)
    content = to_bytes(formed)
    properties = {p.key: p.value for p in onnx.load_from_string(content).metadata_props}
    return content, form, properties


def test_the_record_comes_out_as_it_went_in(described, activation, operator, graph, dtype):
    _, form, properties = described
    document = json.loads(properties[KEY])
    assert (document["schema"], document["form"]) == (SCHEMA, form)
    assert (document["graph"], document["dtype"]) == (graph, dtype)
    assert document["inputs"] == list(signature.inputs(activation, graph))
    assert document["outputs"] == list(signature.outputs(activation, graph))
    record = document["activation"]
    for name in ("name", "title", "summary", "source"):
        assert record[name] == getattr(activation, name)
    for name in ("inputs", "properties", "uses", "limits", "plot_range"):
        assert record[name] == list(getattr(activation, name))
    described_operator = document["operator"]
    assert described_operator["op_type"] == operator.op_type
    assert described_operator["choice"] == dict(operator.choice)
    assert described_operator["reals"] == activation.defaults(operator)
    assert described_operator["bounds"]["y"][dtype]["ulp"] == operator.tolerances[dtype].ulp
    assert properties["formula"] == described_operator["formula"]
    assert properties["name"] == activation.name


def test_the_example_is_what_the_model_gives(described, dtype):
    content, _, properties = described
    example = json.loads(properties[KEY])["example"]
    kind = getattr(torch, dtype)
    results = run(content, {n: torch.tensor(v, dtype=kind) for n, v in example["inputs"].items()})
    for name, result in results.items():
        wanted = torch.tensor(example["outputs"][name], dtype=torch.float64)
        allowed = torch.tensor(example["allowed"][name], dtype=torch.float64)
        assert ((result.double() - wanted).abs() <= allowed).all()


def test_formulas_are_latex_of_the_record():
    swiglu = ACTIVATIONS["swiglu"]
    assert [formula(swiglu, operator) for operator in swiglu.operators] == [
        r"\operatorname{swiglu}(a, b) = a \sigma\left(a\right) \sigma\left(b\right)",
        r"\operatorname{swiglu}(a, b, \alpha) = a b \sigma\left(a \alpha\right)",
    ]


def test_derivatives_are_latex_too(activation, operator):
    found = derivatives(activation, operator)
    assert list(found) == [f"dy_d{name}" for name in activation.inputs]
    assert all(r"\partial y" in latex for latex in found.values())


def test_powers_of_our_functions_are_latex():
    sigmoid = ACTIVATIONS["sigmoid"]
    squared = sigmoid.expression(sigmoid.operators[0]) ** 2
    assert squared._repr_latex_() == r"$\displaystyle \sigma^{2}\left(x\right)$"
