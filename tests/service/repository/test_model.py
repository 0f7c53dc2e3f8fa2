"""Models of the repository: checks of requests, and runs."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto
from onnx_models import endless, filling, helper, model, numpy_helper, port, put, unary

from gatewave.service.codecs.datatypes import DATATYPES
from gatewave.service.errors import ModelFailed, ModelRefused, RequestInvalid
from gatewave.service.onnx.arena import Use
from gatewave.service.serving.model import Batching, Port
from gatewave.service.system.cancellation import CancelToken

SHAPES = [(2, 3), (0, 3), (1, 1)]


@pytest.fixture(params=["none", "process"])
def open_anywhere(request, root, open_model, start_processes):
    """Return a function that opens a model in this process, or in an isolated one."""

    def open_(made, batching=None):
        if request.param == "none":
            return open_model(made, batching)
        return start_processes(put(root, "m", "1", made).parent, batching=batching)

    return open_


def run(model, token=None, /, **inputs):
    model.check(inputs)
    return model.run(inputs, model.output_names, {}, token)


def sample(datatype, shape):
    numbers = np.arange(np.prod(shape)).reshape(shape) % 2
    if datatype.name == "BYTES":
        return np.array([["é\0", "", "b"], ["c", "d", "猫"]], np.object_)[: shape[0], : shape[1]]
    return numbers.astype(datatype.numpy)


@pytest.mark.parametrize("datatype", DATATYPES.values(), ids=DATATYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_datatype_goes_through_unchanged(open_model, datatype, shape):
    model = open_model(unary("Identity", ("n", "k"), datatype.onnx))
    assert model.inputs == (Port("x", datatype.name, (-1, -1)),)
    given = sample(datatype, shape)
    got = run(model, x=given)["y"]
    assert got.dtype == datatype.numpy
    assert got.shape == shape
    assert np.array_equal(got, given)


@pytest.mark.parametrize("left_out", ["BYTES", "BF16"])
def test_every_datatype_passes_a_process_unchanged(root, start_processes, left_out):
    kinds = [kind for kind in DATATYPES.values() if kind.name != left_out]
    nodes = [helper.make_node("Identity", [f"x{k.name}"], [f"y{k.name}"]) for k in kinds]
    inputs = [port(f"x{k.name}", ("n", "k"), k.onnx) for k in kinds]
    outputs = [port(f"y{k.name}", ("n", "k"), k.onnx) for k in kinds]
    made = start_processes(put(root, "m", "1", model(nodes, inputs, outputs)).parent)
    for shape in SHAPES:
        given = {kind.name: sample(kind, shape) for kind in kinds}
        got = run(made, **{f"x{name}": tensor for name, tensor in given.items()})
        for kind in kinds:
            result = got[f"y{kind.name}"]
            assert result.dtype == kind.numpy
            assert result.shape == shape
            assert np.array_equal(result, given[kind.name])


def test_a_scalar_is_a_tensor(open_anywhere):
    model = open_anywhere(unary("Neg", []))
    assert model.inputs[0].shape == ()
    assert run(model, x=np.float32(3.0).reshape(()))["y"].tolist() == -3.0


def test_an_unknown_shape_takes_any(open_anywhere):
    model = open_anywhere(unary("Neg", None))
    for shape in ((), (3,), (1, 2, 3)):
        assert run(model, x=np.ones(shape, np.float32))["y"].shape == shape


def test_bytes_are_taken_for_utf_8(open_anywhere):
    model = open_anywhere(unary("Identity", ("n",), TensorProto.STRING))
    texts = np.array(["é".encode(), "b"], np.object_)
    assert run(model, x=texts)["y"].tolist() == ["é", "b"]
    with pytest.raises(ModelFailed, match="utf-8"):
        run(model, x=np.array([b"\xff"], np.object_))


@pytest.mark.parametrize("name", ["FP32", "BF16"])
def test_tensors_need_be_neither_contiguous_nor_aligned(open_anywhere, name):
    datatype = DATATYPES[name]
    model = open_anywhere(unary("Identity", ("n", "k"), datatype.onnx))
    strided = np.arange(12).astype(datatype.numpy).reshape(3, 4)[:, ::2]
    unaligned = np.frombuffer(b"\0" + strided.tobytes(), np.uint8)[1:].view(datatype.numpy)
    for given in (strided, unaligned.reshape(3, 2)):
        assert np.array_equal(run(model, x=given)["y"], strided)


def test_a_mixture_with_bfloat16_is_given(open_anywhere):
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)]
    nodes.append(helper.make_node("Neg", ["x"], ["z"]))
    outputs = [port("y", ("n",), TensorProto.BFLOAT16), port("z", ("n",))]
    got = run(open_anywhere(model(nodes, [port("x", ("n",))], outputs)), x=np.float32([1.5, -2]))
    assert got["y"].dtype == ml_dtypes.bfloat16
    assert got["y"].tolist() == [1.5, -2]
    assert got["z"].tolist() == [-1.5, 2]


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({}, "inputs.x: expected a tensor: m needs x"),
        ({"x": np.ones((1, 2), np.float64)}, "inputs.x.datatype: expected FP32"),
        ({"x": np.ones(2, np.float32)}, r"inputs.x.shape: expected \[-1, 2\]"),
        ({"x": np.ones((1, 3), np.float32)}, r"inputs.x.shape: expected \[-1, 2\]"),
        (
            {"x": np.ones((1, 2), np.float32), "y": np.ones((1, 2), np.float32)},
            "inputs.y: expected only x",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(open_anywhere, inputs, field):
    with pytest.raises(RequestInvalid, match=field):
        open_anywhere(unary("Neg")).check(inputs)


@pytest.fixture
def biased(open_anywhere):
    """``x + bias``, with an optional ``bias``."""
    bias = numpy_helper.from_array(np.float32([10.0]), "bias")
    node = helper.make_node("Add", ["x", "bias"], ["y"])
    inputs = [port("x", ("n",)), port("bias", [1])]
    return open_anywhere(model([node], inputs, [port("y", ("n",))], [bias]))


def test_inputs_with_a_default_are_optional(biased):
    x = np.float32([1.0, 2.0])
    assert biased.input_names == ("x", "bias")
    assert run(biased, x=x)["y"].tolist() == [11.0, 12.0]
    assert run(biased, x=x, bias=np.float32([1.0]))["y"].tolist() == [2.0, 3.0]


def test_one_that_is_needed_may_not(biased):
    with pytest.raises(RequestInvalid, match=r"inputs\.x: expected a tensor: m needs x,"):
        biased.check({"bias": np.float32([1.0])})


def test_batched_requests_have_equally_many_rows(open_anywhere):
    node = helper.make_node("Add", ["a", "b"], ["y"])
    made = model([node], [port("a"), port("b")], [port("y")])
    one, two = np.ones((1, 2), np.float32), np.ones((2, 2), np.float32)
    open_anywhere(made).check({"a": one, "b": two})
    with pytest.raises(RequestInvalid, match=r"inputs\.b\.shape: expected 1 rows"):
        open_anywhere(made, Batching(8)).check({"a": one, "b": two})


def test_output_bytes_follow_from_the_inputs(open_anywhere):
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)]
    nodes.append(helper.make_node("Transpose", ["x"], ["z"]))
    outputs = [port("y", ("n", 2), TensorProto.DOUBLE), port("z", (2, "n"))]
    made = open_anywhere(model(nodes, [port("x")], outputs))
    x = {"x": np.ones((5, 2), np.float32)}
    assert made.output_bytes(x, ("y", "z")) == 5 * 2 * 8 + 2 * 5 * 4
    assert made.output_bytes(x, ("z",)) == 2 * 5 * 4
    assert made.output_bytes({"x": np.ones((0, 2), np.float32)}, ("y",)) == 0


def test_a_request_for_too_much_memory_fails_alone(open_anywhere):
    made = open_anywhere(filling())
    for count in (1 << 34, 1 << 40, 1 << 62):
        with pytest.raises(ModelFailed, match="more memory than all models may use"):
            run(made, shape=np.array([count]))
    assert run(made, shape=np.array([3]))["y"].tolist() == [0.0, 0.0, 0.0]


CROWDED = """
import pathlib, sys
import numpy as np
import onnx_models
from onnx_models import filling, load, put
from gatewave.service.onnx.engine import Engine
from gatewave.service.errors import ModelFailed, Overloaded
from gatewave.service.onnx.arena import Use

engine = Engine.start("cpu", 1, arena_bytes=1 << 24)
path = put(pathlib.Path(sys.argv[1]), "m", "1", filling())
model = load(path, engine)

def outcome(count):
    try:
        return model.run({"shape": np.array([count])}, ("y",), {})["y"]
    except (ModelFailed, Overloaded) as error:
        return type(error).__name__

held = outcome(1 << 21)
assert held.shape == (1 << 21,)
print(outcome(3 << 20), outcome(5 << 20))
del held
print(outcome(3 << 20).size)
"""


def test_unused_memory_is_released_and_used_memory_is_busy(root):
    """A process of its own is needed, because ONNX Runtime has one arena in each process."""
    paths = os.pathsep.join((str(Path(onnx_models.__file__).parent), *sys.path))
    said = subprocess.run(
        [sys.executable, "-c", CROWDED, root],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.split() == ["Overloaded", "ModelFailed", str(3 << 20)]


def test_who_has_results_shares_the_memory():
    with Use() as first:
        result = np.zeros(3)
        first.hold([result])
    with Use() as second:
        pass
    assert (first.shared, second.shared) == (True, True)
    del result
    with Use() as third:
        pass
    assert not third.shared
    with Use() as fourth, Use() as fifth:
        assert fourth.shared
        assert fifth.shared


def test_a_failed_run_says_why_and_not_where(open_anywhere, root):
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    inputs = [port("x", ("n",)), port("shape", ("k",), TensorProto.INT64)]
    made = open_anywhere(model([node], inputs, [port("y", None)]))
    with pytest.raises(ModelFailed) as caught:
        run(made, x=np.ones(3, np.float32), shape=np.array([2, 2]))
    said = str(caught.value)
    assert "Reshape" in said
    assert "requested shape:{2,2}" in said
    assert str(root) not in said
    assert "onnxruntime_src" not in said
    assert len(said) < 400


def test_a_run_without_callers_ends(open_anywhere):
    made, token = open_anywhere(endless()), CancelToken()
    ended = []

    def compute():
        with pytest.raises(ModelFailed, match="no caller waits"):
            run(made, token, x=np.ones((1, 2), np.float32))
        ended.append(True)

    thread = threading.Thread(target=compute)
    thread.start()
    token.cancel()
    thread.join(30)
    assert ended


def sequence():
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    made = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    return model([node], [port("x")], [made])


def optional():
    node = helper.make_node("Optional", ["x"], ["y"])
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    return model([node], [port("x", [2])], [helper.make_value_info("y", kind)])


def text_and_bfloat16():
    nodes = [
        helper.make_node("StringNormalizer", ["s"], ["t"]),
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16),
    ]
    inputs = [port("s", [1], TensorProto.STRING), port("x")]
    outputs = [port("t", None, TensorProto.STRING), port("y", ("n", 2), TensorProto.BFLOAT16)]
    return model(nodes, inputs, outputs)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (sequence(), r"y: expected a tensor .* got seq\(tensor\(float\)\)"),
        (optional(), r"y: expected a tensor .* got optional\(tensor\(float\)\)"),
        (unary("Identity", ("n",), TensorProto.COMPLEX64), "complex64|[Cc]ould not find"),
        (text_and_bfloat16(), "not supported together"),
        (unary("NoSuchOperator"), "NoSuchOperator"),
        (model([], [], [], opsets=(("", 9999),)), "cannot load it"),
    ],
    ids=["sequence", "optional", "complex", "mixed", "operator", "opset"],
)
def test_unsupported_models_are_refused_with_the_reason(open_model, root, made, why):
    with pytest.raises(ModelRefused, match=why) as caught:
        open_model(made)
    assert str(root) not in str(caught.value)


def test_a_later_ir_version_is_refused(open_model):
    made = unary("Neg")
    made.ir_version = onnx.IR_VERSION + 100
    with pytest.raises(ModelRefused, match="IR version"):
        open_model(made)
