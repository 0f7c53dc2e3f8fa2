"""Every operator through ONNX Runtime, run by the native kernels."""

import re

import numpy as np
import onnxruntime as ort
import pytest
from expected import check_within, expectation
from native_models import SCALAR, model, numbers, operator_model, options, run, session
from onnx import TensorProto, helper
from records import CASES

from gatewave.export.accuracy import certify
from gatewave.export.accuracy.certify import Kernels
from gatewave.export.operators import decomposed, to_bytes, with_rank
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.models import Tolerance

ROUNDING = {"float64": 2.0**-53}
"""Unit roundoff, unless it is that of float32, in which 16-bit floats are computed."""


def test_every_graph_is_within_the_bounds_of_its_record_and_of_its_kernel(
    case, graph, dtype, exported, kernels, description
):
    activation, operator = case
    if operator.op_type not in description["kernels"]:
        pytest.skip("it has no kernel")
    content = to_bytes(exported(activation.stem(operator))[graph, dtype])
    expected = expectation(activation, operator, graph, dtype)
    results = certify.run(content, expected.inputs, kernels)
    check_within(operator, dtype, results, expected)
    bounds = description["kernels"][operator.op_type]
    check_within(
        operator, dtype, results, expected, lambda _, name, kind: promised(bounds, name, kind)
    )


def promised(bounds, output, dtype):
    bound = bounds["value" if output == "y" else "partials"]
    ulp = 1 if dtype in {"float16", "bfloat16"} else bound["ulp"]
    atol = bound["near_zero"] * ROUNDING.get(dtype, 2.0**-24)
    return Tolerance(ulp=ulp, atol=max(atol, CANCELLED[dtype == "float64"]))


CANCELLED = (0.0, 1e-79)
"""Cancellation in formulas of erf and tanh: `reference` returns 0 if 80 digits do not suffice."""


def test_each_described_kernel_is_an_operator_of_a_record(description):
    assert {*description["kernels"]} <= {operator.op_type for _, operator in CASES.values()}
    assert description["instructions"] == description["supported"][0]
    for bounds in description["kernels"].values():
        assert all(0 < bounds[kind]["ulp"] <= 2 for kind in ("value", "partials"))


@pytest.mark.parametrize(
    "shape",
    [
        *[(), (1,), (7,), (40_000,), (200, 300)],
        *[(*(1,) * rank, 2, 3) for rank in range(8)],
        *[(0,), (0, 5), (3, 0, 2), (5, 0), (1, 1, 0, 1, 1, 1, 1, 1, 1)],
    ],
    ids=str,
)
@pytest.mark.parametrize("stem", ["sinc", "swiglu-linear", "swish"])
def test_tensors_of_any_rank_and_length_keep_their_shape(stem, shape, exported, library):
    activation, _ = CASES[stem]
    content = to_bytes(with_rank(exported(stem)["grad", "float32"], None), checked=False)
    inputs = {n: numbers(*shape, seed=k) for k, n in enumerate(activation.inputs)}
    flat = {name: tensor.reshape(-1) for name, tensor in inputs.items()}
    results = run(library, content, inputs)
    for result, want in zip(results, run(library, content, flat), strict=True):
        assert result.shape == shape
        assert np.array_equal(np.ravel(result), want)


PORT = helper.make_tensor_value_info
X, Y = (PORT(name, TensorProto.FLOAT, None) for name in ("x", "y"))


@pytest.mark.parametrize(
    ("first", "second"),
    [((6,), (2, 3)), ((6,), (5,)), ((2, 3), (3, 2)), ((), (1,)), ((0,), (0, 1)), ((1,) * 9, (1,))],
    ids=str,
)
def test_unequal_shapes_are_refused_by_name(library, first, second):
    content = operator_model("SwiGLULinearVJP", ["a", "b", "g", SCALAR], ["da", "db"])
    inputs = dict.fromkeys(("a", "g"), numbers(*first)) | {"b": numbers(*second)}
    inputs["alpha"] = np.array(1, np.float32)
    message = (
        f"SwiGLULinearVJP: its inputs must have one shape, the first has {list(first)}, "
        f"the second input {list(second)}"
    )
    with pytest.raises(
        ort.capi.onnxruntime_pybind11_state.InvalidArgument, match=re.escape(message)
    ):
        run(library, content, inputs)


def test_the_gradient_must_have_the_shape_of_what_it_is_the_gradient_of(library):
    content = operator_model("SincVJP", ["x", "g"], ["dx"])
    with pytest.raises(Exception, match=r"SincVJP: .*first has \[4\], the second input \[5\]"):
        run(library, content, {"x": numbers(4), "g": numbers(5)})


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2)], ids=str)
def test_alpha_must_be_a_scalar(library, shape):
    content = operator_model("Swish", ["x", SCALAR], ["y"])
    message = f"Swish: alpha must be a scalar, its shape is {list(shape)}"
    with pytest.raises(Exception, match=re.escape(message)):
        run(library, content, {"x": numbers(3), "alpha": np.ones(shape, np.float32)})


def test_a_wrong_type_is_refused_with_the_types_that_there_are(library):
    with pytest.raises(Exception, match=r"(?s)Type.*tensor\(int64\).*Sinc.*invalid"):
        session(library, operator_model("Sinc", ["x"], ["y"], kind=TensorProto.INT64))


@pytest.mark.parametrize(
    ("first", "second"), [("FLOAT", "DOUBLE"), ("DOUBLE", "FLOAT"), ("FLOAT16", "BFLOAT16")]
)
def test_mixed_types_are_refused_by_name(library, first, second):
    given = [PORT("a", getattr(TensorProto, first), None)]
    given.append(PORT("b", getattr(TensorProto, second), None))
    output = PORT("y", getattr(TensorProto, first), None)
    with pytest.raises(Exception, match=r"no kernel def matches node inputs for Op: GLU\b"):
        session(library, operator_model("GLU", given, [output]))


def test_alpha_of_16_bit_tensors_is_a_float32(library):
    narrow = operator_model("Swish", ["x", "alpha"], ["y"], kind=TensorProto.FLOAT16)
    with pytest.raises(Exception, match=r"(?s)Type.*tensor\(float16\).*Swish"):
        session(library, narrow)


@pytest.mark.parametrize(
    ("op_type", "inputs", "outputs"),
    [
        ("GLU", ["a"], ["y"]),
        ("Swish", ["x"], ["y"]),
        ("SincVJP", ["x"], ["dx"]),
        ("Sinc", ["x", "b"], ["y"]),
    ],
)
def test_too_few_or_too_many_inputs_are_refused(library, op_type, inputs, outputs):
    with pytest.raises(Exception, match=op_type):
        session(library, operator_model(op_type, inputs, outputs))


def with_operators(library, text):
    made = ort.SessionOptions()
    made.log_severity_level = 4
    made.add_session_config_entry("ai.gatewave.operators", text)
    Kernels(library).register(made)
    return made


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("Sink", "Sink"),
        ("Swish,Sink", "Sink"),
        ("Sinc, sinc", "sinc"),
        ("Swi sh", "Swi sh"),
        ("Swish Sinc", "Swish Sinc"),
        ("Sinc;GLU", "Sinc;GLU"),
    ],
)
def test_an_operator_that_is_not_there_is_refused_with_those_that_are(library, text, unknown):
    with pytest.raises(Exception, match=r"ai\.gatewave\.operators") as caught:
        with_operators(library, text)
    said = str(caught.value)
    assert f"'{unknown}'" in said
    assert {"GLU", "Sinc", "SwishVJP"} <= set(re.findall(r"\w+", said.replace(unknown, "")))


@pytest.mark.parametrize(
    "text", ["Swish, Sinc", " Sinc ,Swish ", "Sinc,,Swish,", "Sinc,Swish,Sinc"]
)
def test_blanks_around_the_names_of_operators_do_not_matter(library, text):
    made = with_operators(library, text)
    inputs = {"x": numbers(5), "alpha": np.array(1, np.float32)}
    for op_type, names in (("Sinc", ["x"]), ("Swish", ["x", SCALAR])):
        content = operator_model(op_type, names, ["y"])
        opened = ort.InferenceSession(content, made, providers=["CPUExecutionProvider"])
        given = {value.name: inputs[value.name] for value in opened.get_inputs()}
        assert np.array_equal(opened.run(None, given)[0], run(library, content, given)[0])
    with pytest.raises(Exception, match="GLU"):
        ort.InferenceSession(
            operator_model("GLU", ["a", "b"], ["y"]), made, providers=["CPUExecutionProvider"]
        )


@pytest.mark.parametrize("wanted", ["sse9", "AVX2", "avx"])
def test_an_instruction_set_that_is_not_there_is_refused_with_those_that_are(
    library, description, wanted
):
    known = ", ".join(description["supported"])
    message = f"ai.gatewave.instructions must be one of {known}, not '{wanted}'"
    with pytest.raises(Exception, match=re.escape(message)):
        options(library, instructions=wanted)


def test_nodes_downstream_know_shapes_and_types(library):
    nodes = [
        helper.make_node("GLUValueAndGrad", ["a", "b"], ["y", "da", "db"], domain=DOMAIN),
        *(helper.make_node("Transpose", [name], [name + "_t"]) for name in ("y", "da", "db")),
    ]
    given = [PORT(name, TensorProto.DOUBLE, ["rows", 3, "columns"]) for name in ("a", "b")]
    unknown = [
        helper.make_value_info(name + "_t", helper.make_tensor_type_proto(TensorProto.DOUBLE, None))
        for name in ("y", "da", "db")
    ]
    made = session(library, model(nodes, given, unknown))
    for output in made.get_outputs():
        assert output.shape == ["columns", 3, "rows"]
        assert output.type == "tensor(double)"


UNKNOWN = {
    "anonymous rows": [None, 3],
    "anonymous columns": [2, None],
    "both anonymous": [None, None],
    "one of them named": ["rows", None],
    "all named": ["rows", "columns"],
    "unknown rank": None,
}
"""Declarations of a tensor of shape [2, 3]."""

DOWNSTREAM = {
    "Shape": ({}, lambda y: np.array(y.shape)),
    "Size": ({}, lambda y: np.array(y.size)),
    "Transpose": ({"perm": [1, 0]}, np.transpose),
    "Concat": ({"axis": 1}, lambda y: np.concatenate([y, y], axis=1)),
    "Flatten": ({}, lambda y: y.reshape(2, 3)),
}
"""ONNX's operators that use the known part of their input's shape, and their results."""


@pytest.mark.parametrize("declared", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("op_type", DOWNSTREAM)
@pytest.mark.parametrize("stem", ["Sinc", "GLU"])
def test_what_is_not_known_of_a_shape_is_not_made_up(library, stem, op_type, declared):
    attributes, wanted = DOWNSTREAM[op_type]
    names = ["x"] if stem == "Sinc" else ["x", "b"]
    follows = ["y", "y"] if op_type == "Concat" else ["y"]
    nodes = [
        helper.make_node(stem, names, ["y"], domain=DOMAIN),
        helper.make_node(op_type, follows, ["z"], **attributes),
    ]
    ports = [PORT(name, TensorProto.FLOAT, declared) for name in names]
    kind = TensorProto.INT64 if op_type in {"Shape", "Size"} else TensorProto.FLOAT
    results = [PORT("y", TensorProto.FLOAT, None), PORT("z", kind, None)]
    inputs = {name: numbers(2, 3, seed=k) for k, name in enumerate(names)}
    y, z = run(library, model(nodes, ports, results), inputs)
    assert y.shape == (2, 3)
    assert np.array_equal(z, wanted(y))


def test_the_kernel_runs_and_not_the_body(exported, library):
    made = exported("swiglu-linear")["value", "float32"].clone()
    (body,) = made.functions.values()
    for node in body:
        if node.op_type == "Sigmoid":
            node.op_type = "Tanh"
    inputs = {"a": numbers(9), "b": numbers(9, seed=1)}
    right, wrong = to_bytes(exported("swiglu-linear")["value", "float32"]), to_bytes(made)
    plain = ort.InferenceSession(wrong, providers=["CPUExecutionProvider"])
    (by_body,) = plain.run(None, inputs)
    (by_kernel,), (wanted,) = (run(library, content, inputs) for content in (wrong, right))
    assert np.array_equal(by_kernel, wanted)
    assert not np.allclose(by_body, wanted, rtol=1e-2)


def test_the_decomposed_form_needs_no_kernel(exported, library):
    content = to_bytes(decomposed(exported("sinc")["value", "float32"]))
    (result,) = run(library, content, {"x": numbers(5)})
    assert np.allclose(result, np.sinc(numbers(5)), atol=1e-6)
