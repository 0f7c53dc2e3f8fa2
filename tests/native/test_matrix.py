"""Kernels in old and new versions of ONNX Runtime, each in its own environment.

The environment of a version contains it and NumPy, in `.venv-matrix/VERSION`. This process makes
its models and inputs: every artifact, inputs, and the results of the kernels here, which are
compared with exact results. NumPy has no bfloat16; the models cast it to float32 and back.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from environments import TOO_OLD, VERSIONS, python_of
from onnx import TensorProto, helper
from onnx_models import model, port
from records import CASES

from gatewave.export.accuracy import certify, reference
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import GRAPHS
from gatewave.models import DTYPES

pytestmark = pytest.mark.matrix

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "service" / "libgatewave.so"
PROGRAM = Path(__file__).parent / "runtimes" / "runs.py"

POINTS = 256

PAIR = [port("a", ("n", 2)), port("b", ("m", "k"))]
REFUSED = {
    "shapes": (PAIR, "GLU", {"a": np.zeros((2, 2)), "b": np.zeros((3, 2))}),
    "ranks": ([PAIR[0], port("b", ("m",))], "GLU", {"a": np.zeros((2, 2)), "b": np.zeros(4)}),
    "types": ([PAIR[0], port("b", ("n", 2), TensorProto.DOUBLE)], "GLU", {}),
    "integers": ([port("a", ("n", 2), TensorProto.INT32)], "Sinc", {}),
    "alpha": (
        [PAIR[0], port("alpha", ("k",))],
        "Swish",
        {"a": np.zeros((2, 2)), "alpha": np.ones(3)},
    ),
}
"""Inputs that every kernel rejects: declarations, operator and tensors."""

WORDS = {
    "shapes": "GLU: its inputs must have one shape, the first has [2, 2], the second input [3, 2]",
    "ranks": "GLU: its inputs must have one shape, the first has [2, 2], the second input [4]",
    "types": "no kernel def matches node inputs for Op: GLU",
    "integers": "tensor(int32)",
    "alpha": "Swish: alpha must be a scalar, its shape is [3]",
}

DECLARED = {
    "anonymous-rows": (None, 3),
    "anonymous": (None, None),
    "named": ("rows", 3),
    "unknown-rank": None,
}
"""Declarations of a tensor of shape [2, 3]."""


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory):
    """Return the input of `runtimes/runs.py`; results of this environment are within the bounds."""
    made = tmp_path_factory.mktemp("matrix")
    for stem in CASES:
        for graph in GRAPHS:
            for dtype in DTYPES:
                write_case(made, artifacts, stem, graph, dtype)
    (made / "refused").mkdir()
    for name, (inputs, op_type, tensors) in REFUSED.items():
        node = helper.make_node(op_type, [p.name for p in inputs], ["y"], domain="ai.gatewave")
        opsets = (("", 17), ("ai.gatewave", 1))
        onnx.save(
            model([node], inputs, [port("y", None)], opsets=opsets), made / f"refused/{name}.onnx"
        )
        given = {f"in:{name}": tensor.astype(np.float32) for name, tensor in tensors.items()}
        np.savez(made / f"refused/{name}.npz", **given)
    (made / "shapes").mkdir()
    for name, shape in DECLARED.items():
        onnx.save(shape_of_sinc(shape), made / f"shapes/{name}.onnx")
    return made


def shape_of_sinc(declared):
    nodes = [
        helper.make_node("Sinc", ["x"], ["y"], domain="ai.gatewave"),
        helper.make_node("Shape", ["y"], ["shape"]),
    ]
    outputs = [port("shape", None, TensorProto.INT64)]
    opsets = (("", 17), ("ai.gatewave", 1))
    return model(nodes, [port("x", declared)], outputs, opsets=opsets)


def write_case(folder, artifacts, stem, graph, dtype):
    activation, operator = CASES[stem]
    name = f"{stem}.{graph}.{dtype}"
    artifact = onnx.load(artifacts / f"{name}.onnx")
    assert (artifact.ir_version, artifact.opset_import[0].version) == (8, 17)
    if dtype == "bfloat16":
        in_float32(artifact)
    onnx.save(artifact, folder / f"{name}.onnx")
    bare = without_body(artifact)
    onnx.save(bare, folder / f"{name}.bare.onnx")

    names = signature.inputs(activation, graph)
    every = reference.samples(activation, graph, dtype)
    some = torch.randperm(len(every[0]), generator=torch.Generator().manual_seed(1))[:POINTS]
    inputs = {n: tensor[some] for n, tensor in zip(names, every, strict=True)}
    given = {n: as_numpy(tensor).reshape(-1, 2) for n, tensor in inputs.items()}
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(LIBRARY))
    session = ort.InferenceSession(bare.SerializeToString(), options)
    results = dict(zip(signature.outputs(activation, graph), session.run(None, given), strict=True))
    assert_within_bounds(activation, operator, graph, inputs, results)
    stored = {f"in:{n}": array for n, array in given.items()}
    stored |= {f"out:{n}": array for n, array in results.items()}
    np.savez(folder / f"{name}.npz", **stored)


def in_float32(artifact):
    """Give a bfloat16 model float32 inputs and outputs."""
    graph = artifact.graph
    (node,) = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    narrow = [v for v in graph.input if v.type.tensor_type.elem_type == TensorProto.BFLOAT16]
    names = {v.name: f"{v.name}.narrow" for v in (*narrow, *graph.output)}
    before = [helper.make_node("Cast", [v.name], [names[v.name]], to=16) for v in narrow]
    after = [helper.make_node("Cast", [names[v.name]], [v.name], to=1) for v in graph.output]
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names[name] for name in node.output]
    for value in (*narrow, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.node[:]
    graph.node.extend([*before, node, *after])


def without_body(artifact):
    """Return a model that only a kernel can run, with output shapes to be inferred."""
    bare = onnx.ModelProto.FromString(artifact.SerializeToString())
    del bare.functions[:]
    defaults = {tensor.name for tensor in bare.graph.initializer}
    for value in bare.graph.input:
        if value.name not in defaults:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(port(value.name, ("n", 2), kind))
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    return bare


def as_numpy(tensor):
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_within_bounds(activation, operator, graph, inputs, results):
    exact = reference.exact(activation, operator, graph, list(inputs.values()))
    scale = certify.scale_of(operator, inputs)
    infinite = torch.stack(list(inputs.values())).isinf().any(dim=0)
    dtype = next(iter(inputs.values())).dtype
    for (name, array), want in zip(results.items(), exact, strict=True):
        tolerance = certify.tolerance_of(operator, name, str(dtype).removeprefix("torch."))
        got = torch.from_numpy(array.reshape(-1)).to(dtype)
        _, measured = certify.measure(got, want, tolerance, scale, infinite)
        assert measured.used <= 1, (operator.op_type, graph, dtype, name, measured)


def run_in(version, folder):
    """Return the report of `runtimes/runs.py` from a version's environment, made at first use."""
    done = subprocess.run(
        [python_of(version), PROGRAM, LIBRARY, folder],
        cwd=folder,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    report = json.loads(done.stdout)
    assert report["version"] == version
    return report


@pytest.fixture(scope="module", params=VERSIONS)
def report(request, folder):
    return run_in(request.param, folder)


def operator_of(name):
    stem, graph, dtype = name.split(".")
    op_type = signature.op_type(CASES[stem][1], graph)
    return [op_type] if dtype != "bfloat16" else sorted(["Cast", op_type])


def test_every_artifact_runs_and_answers_as_here_to_the_bit(report):
    assert len(report["cases"]) == len(CASES) * len(GRAPHS) * len(DTYPES)
    different = [name for name, case in report["cases"].items() if not case["is_equal"]]
    assert different == []


def test_the_kernel_runs_though_the_artifact_has_a_function_body(report):
    for name, case in report["cases"].items():
        assert case["ran"] == operator_of(name), name


def test_without_a_function_body_the_answers_are_the_same(report):
    cases = report["cases"].items()
    assert [name for name, case in cases if not case["is_equal_without_body"]] == []


def test_outputs_have_the_symbolic_shape_of_the_inputs(report):
    for name, case in report["cases"].items():
        assert case["inferred"] == [["n", 2]] * len(case["inferred"]), name


def test_what_is_not_known_of_a_shape_is_not_made_up(report):
    assert report["shapes"] == {name: [2, 3] for name in DECLARED}


@pytest.mark.parametrize("wrong", REFUSED)
def test_wrong_inputs_are_refused_with_clear_words(report, wrong):
    told = report["refused"][wrong]
    assert told is not None
    assert told.startswith("onnxruntime.")
    assert WORDS[wrong] in told


def test_an_older_runtime_is_told_which_one_it_takes(folder):
    told = run_in(TOO_OLD, folder)["error"]
    assert told.startswith("onnxruntime.")
    assert f"need ONNX Runtime 1.17 or newer; this is {TOO_OLD}" in told
