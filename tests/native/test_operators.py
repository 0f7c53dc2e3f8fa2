"""Every operator through ONNX Runtime, run by the native kernels."""

import concurrent.futures
import functools
import itertools
import os
import re

import numpy as np
import onnxruntime as ort
import pytest
import torch
from native_models import model, numbers, operator_model, options, session
from onnx import TensorProto, helper
from records import CASES

from export import certify, reference, signature
from export.certify import Kernels
from export.graph import decomposed, to_bytes, with_rank
from export.signature import DOMAIN
from models import Tolerance

ROUNDING = {"float64": 2.0**-53}
"""Of 1, where numbers have not float32's digits; 16-bit floats are computed in float32."""


def run(library, content, inputs, **settings):
    return session(library, content, **settings).run(None, inputs)


def test_every_graph_earns_its_certificate_within_the_kernels_own_bounds(
    case, graph, dtype, exported, kernels, description
):
    activation, operator = case
    content = to_bytes(exported(activation.stem(operator))[graph, dtype])
    for measured in certify.certify(
        content,
        activation,
        operator,
        graph,
        dtype,
        compute=functools.partial(certify.run, kernels=kernels),
    ).values():
        assert measured.used <= 1
    names = signature.inputs(activation, graph)
    inputs = dict(zip(names, reference.samples(activation, graph, dtype), strict=True))
    results = certify.run(content, inputs, kernels)
    exact = reference.exact(activation, operator, graph, list(inputs.values()))
    infinite = torch.stack(list(inputs.values())).isinf().any(dim=0)
    scale = certify.scale_of(operator, inputs)
    for (name, result), want in zip(results.items(), exact, strict=True):
        tolerance = promised(description["kernels"][operator.op_type], name, dtype)
        _, measured = certify.measure(result, want, tolerance, scale, infinite)
        assert measured.used <= 1, (name, tolerance, measured)


def promised(bounds, output, dtype):
    bound = bounds["value" if output == "y" else "partials"]
    ulp = 1 if dtype in {"float16", "bfloat16"} else bound["ulp"]
    atol = bound["near_zero"] * ROUNDING.get(dtype, 2.0**-24)
    return Tolerance(ulp=ulp, atol=max(atol, CANCELLED[dtype == "float64"]))


CANCELLED = (0.0, 1e-79)
"""Formulas in erf and tanh cancel: `reference` takes for 0 what 80 digits do not tell from it."""


def test_the_library_describes_a_kernel_for_every_operator(description):
    assert {*description["kernels"]} == {operator.op_type for _, operator in CASES.values()}
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
X, Y, SCALAR = (PORT(name, TensorProto.FLOAT, None) for name in ("x", "y", "alpha"))


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
"""How a tensor of shape [2, 3] may be declared."""

DOWNSTREAM = {
    "Shape": ({}, lambda y: np.array(y.shape)),
    "Size": ({}, lambda y: np.array(y.size)),
    "Transpose": ({"perm": [1, 0]}, np.transpose),
    "Concat": ({"axis": 1}, lambda y: np.concatenate([y, y], axis=1)),
    "Flatten": ({}, lambda y: y.reshape(2, 3)),
}
"""ONNX's operators that use what they know of their input's shape; and what they give."""


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


@pytest.mark.parametrize("length", [1, 67, 1024, 50_000])
def test_outputs_may_take_the_place_of_inputs(library, kernels, length):
    content = operator_model("GLUValueAndGrad", ["a", "b"], ["y", "da", "db"], shape=["n"])
    made = session(library, content, instructions=kernels.instructions)
    inputs = {"a": numbers(length), "b": numbers(length, seed=1)}
    apart = dict(zip(("y", "da", "db"), made.run(None, inputs), strict=True))
    for first, second in itertools.permutations(apart, 2):
        binding = made.io_binding()
        values = {n: ort.OrtValue.ortvalue_from_numpy(v.copy()) for n, v in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        over = {first: values["a"], second: values["b"]}
        for name in apart:
            if name in over:
                binding.bind_ortvalue_output(name, over[name])
            else:
                binding.bind_output(name)
        made.run_with_iobinding(binding)
        for name, value in over.items():
            assert np.array_equal(value.numpy(), apart[name]), (name, first, second)


def test_runs_at_once_give_what_they_give_alone(library, description):
    content = operator_model("SwiGLUSigmoidValueAndGrad", ["a", "b"], ["y", "da", "db"], ["n"])
    inputs = {"a": 30 * numbers(70_001), "b": 30 * numbers(70_001, seed=1)}
    kinds = list(itertools.product(description["supported"], (1, 4)))
    sessions = {
        kind: session(library, content, instructions=kind[0], threads=kind[1]) for kind in kinds
    }
    alone = {kind: run(library, content, inputs, instructions=kind[0]) for kind in kinds}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [(kind, pool.submit(sessions[kind].run, None, inputs)) for kind in kinds * 10]
        for kind, call in calls:
            for result, want in zip(call.result(), alone[kind], strict=True):
                assert np.array_equal(result, want)


GLOBAL_POOL = """
import sys
import numpy as np
import onnxruntime as ort
ort.set_global_thread_pool_sizes(4, 1)
library, path, folder = sys.argv[1:]
options = ort.SessionOptions()
options.use_per_session_threads = False
options.register_custom_ops_library(library)
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
x = np.load(folder + "/x.npy")
for _ in range(5):
    np.save(folder + "/y.npy", session.run(None, {"x": x})[0])
"""


def test_the_global_thread_pool_gives_the_same(library, tmp_path, subprocess_python):
    if not hasattr(ort, "set_global_thread_pool_sizes"):
        pytest.skip("this ONNX Runtime cannot set up its global thread pool from Python")
    content = operator_model("Sinc", ["x"], ["y"], ["n"])
    (tmp_path / "model.onnx").write_bytes(content)
    np.save(tmp_path / "x.npy", numbers(300_000))
    subprocess_python(GLOBAL_POOL, library, tmp_path / "model.onnx", tmp_path)
    (want,) = run(library, content, {"x": numbers(300_000)})
    assert np.array_equal(np.load(tmp_path / "y.npy"), want)


HUGE = {
    # More than 2^31 bytes; and more than 2^31 elements.
    "float32": (TensorProto.FLOAT, np.float32, np.uint32, 2**29 + 1000, 8),
    "float16": (TensorProto.FLOAT16, np.float16, np.uint16, 2**31 + 1000, 14),
}


@pytest.mark.parametrize(("kind", "threads"), [("float32", 1), ("float16", 2)])
def test_huge_tensors_are_right_to_their_end(library, kind, threads):
    onnx_type, dtype, pattern, length, gibibytes = HUGE[kind]
    if available() < gibibytes * 2**30:
        pytest.skip(f"it takes {gibibytes} GiB of free memory")
    content = operator_model("Sinc", ["x"], ["y"], ["n"], onnx_type)
    made = session(library, content, threads=threads, enable_cpu_mem_arena=False)
    x = np.zeros(length, dtype)
    places = [0, length // 2 - 1, length // 2, 2**29 - 1, 2**29, length - 1000, length - 1]
    x[places] = numbers(len(places), dtype=dtype)
    (y,) = made.run(None, {"x": x})
    (want,) = made.run(None, {"x": x[places]})
    assert np.array_equal(y[places], want)
    y[places] = 1
    one = np.ones(1, dtype).view(pattern)
    assert y.view(pattern).min() == y.view(pattern).max() == one


def available():
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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


def test_registering_twice_is_refused_by_name_and_harms_no_other_session(library):
    content = operator_model("Sinc", ["x"], ["y"])
    made = options(library)
    before = ort.InferenceSession(content, made, providers=["CPUExecutionProvider"])
    Kernels(library).register(made)
    conflict = r"\bai\.gatewave\b.*Conflicting with a registered kernel"
    with pytest.raises(Exception, match=conflict):
        ort.InferenceSession(content, made, providers=["CPUExecutionProvider"])
    x = numbers(5)
    for opened in (before, session(library, content)):
        assert np.allclose(opened.run(None, {"x": x})[0], np.sinc(x), atol=1e-6)


OPENED_AND_CLOSED = """
import gc, os, pathlib, sys
import numpy as np
import onnxruntime as ort
library, path, count = sys.argv[1:]
inputs = {name: np.ones(3, np.float32) for name in ("x", "g")}
inputs["alpha"] = np.array(1, np.float32)

def open_and_close(times):
    for _ in range(times):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.register_custom_ops_library(library)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, inputs)
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

before = open_and_close(1500)
print((open_and_close(int(count)) - before) / int(count))
"""


def test_many_sessions_leave_nothing_behind(library, tmp_path, subprocess_python):
    content = operator_model("SwishVJP", ["x", "g", SCALAR], ["dx"], ["n"])
    (tmp_path / "model.onnx").write_bytes(content)
    # In a process of its own: here the heap has holes from elsewhere.
    grown = subprocess_python(OPENED_AND_CLOSED, library, tmp_path / "model.onnx", 3000)
    assert float(grown) < 1024  # bytes a session


LET_GO_OF = """
import gc, os, pathlib, sys
import numpy as np
import onnxruntime as ort
library, path, count = sys.argv[1:]
inputs = {name: np.ones(3, np.float32) for name in ("x", "g")}
inputs["alpha"] = np.array(1, np.float32)

def cycles(times):
    for _ in range(times):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.register_custom_ops_library(library)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, inputs)
        # Nothing holds the library now: the system may take it out of memory.
        del session, options
        gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

before = cycles(20)
print(cycles(int(count)) - before)
"""


def test_a_library_that_no_session_holds_is_not_made_anew(library, tmp_path, subprocess_python):
    content = operator_model("SwishVJP", ["x", "g", SCALAR], ["dx"], ["n"])
    (tmp_path / "model.onnx").write_bytes(content)
    grown = subprocess_python(LET_GO_OF, library, tmp_path / "model.onnx", 300)
    assert float(grown) < 2 << 20
