"""Small ONNX models for a repository."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from gatewave.service.repository.files import read_version
from gatewave.service.repository.model import open_model
from gatewave.service.repository.trial.messages import TrialJob

FLOAT = TensorProto.FLOAT


def port(name, shape=("n", 2), kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, initializers=(), functions=(), opsets=(("", 17),)):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid(*opset) for opset in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)


def unary(operator, shape=("n", 2), kind=FLOAT, **attributes):
    """``y = operator(x)``."""
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    return model([node], [port("x", shape, kind)], [port("y", shape, kind)])


def scaled(factor):
    """``y = factor · x``."""
    weight = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    return model([node], [port("x")], [port("y")], [weight])


def external(location, *, key="location", **more):
    """``y = x · w``, with ``w`` in the file ``location``."""
    weight = numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "w")
    lying_elsewhere(weight, location, key=key, **more)
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    return model([node], [port("x")], [port("y")], [weight])


def lying_elsewhere(tensor, location, *, key="location", **more):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for name, value in {key: location, **more}.items():
        tensor.external_data.add(key=name, value=str(value))
    return tensor


def conditional():
    """``y = x / 255`` if some number of ``x`` is above 2, and ``x`` otherwise."""
    constants = {"two": np.float32(2), "scale": np.float32(1 / 255)}
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "two"], ["large"]),
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Where", ["large", "scaled", "x"], ["y"], name="choice"),
    ]
    values = [numpy_helper.from_array(np.array(v), n) for n, v in constants.items()]
    return model(nodes, [port("x")], [port("y")], values)


def averaged():
    """``y = 0 · mean(x) + x``: only infinities and NaN show that the rows depend on each other."""
    zero = numpy_helper.from_array(np.float32([0]), "zero")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    return model(nodes, [port("x")], [port("y")], [zero])


def branching():
    """``y = -x`` if the mean of ``x`` is above 0, and ``x`` otherwise."""

    def branch(operator):
        node = helper.make_node(operator, ["x"], [operator])
        return helper.make_graph([node], operator, [], [port(operator)])

    zero = numpy_helper.from_array(np.float32(0), "zero")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["above"]),
        helper.make_node(
            "If", ["above"], ["y"], then_branch=branch("Neg"), else_branch=branch("Identity")
        ),
    ]
    return model(nodes, [port("x")], [port("y")], [zero])


def centred():
    """``y = x - mean(x)``, of all rows."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return model(nodes, [port("x")], [port("y")])


def endless(per="all"):
    """Endless loop; with ``per="others"``, it has no iteration for a single row."""
    most = numpy_helper.from_array(np.array(2**62, np.int64), "most")
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    on = numpy_helper.from_array(np.array(True), "on")
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            port("i", [], TensorProto.INT64),
            port("go", [], TensorProto.BOOL),
            port("before"),
        ],
        [port("goes", [], TensorProto.BOOL), port("after")],
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], end=1),
        helper.make_node("Sub", ["rows", "one"], ["others"]),
        helper.make_node("Shape", ["rows"], ["all"]),
        helper.make_node("Mul", [per, "most"], ["trips"]),
        helper.make_node("Loop", ["trips", "on", "x"], ["y"], body=body),
    ]
    return model(nodes, [port("x")], [port("y")], [most, one, on])


def filled(count):
    """``y`` is ``count`` zeros: a file of 72 bytes that needs any amount of memory."""
    shape = numpy_helper.from_array(np.array([count], np.int64), "shape")
    node = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    return model([node], [], [port("y", None)], [shape])


def filling():
    """``y`` is as many zeros as the request asks for."""
    node = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    return model([node], [port("shape", [1], TensorProto.INT64)], [port("y", ["k"])])


def nested(depth):
    """Return an ONNX file with a graph in an attribute of a node of a graph, and deeper."""

    def field(number, content):
        return _varint(number << 3 | 2) + _varint(len(content)) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def reshaped():
    """Six numbers in any number of rows: for example 1 row of 6, or 2 rows of 3."""
    shape = numpy_helper.from_array(np.array([6], np.int64), "shape")
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return model([node], [port("x", ("n", "k"))], [port("y", [6])], [shape])


def raw(made):
    return made if isinstance(made, bytes) else made.SerializeToString()


def put(root, name, version, made, config=None):
    """Put a model into the repository atomically, as `mv` does."""
    folder = root / name / version
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (root / name / "config.yaml").write_text(config)
    part = folder / ".part"
    part.write_bytes(raw(made))
    return part.replace(folder / "model.onnx")


def load(path, engine, batching=None):
    """Open the version with the ONNX file ``path``, as the trial does."""
    found, files = read_version(path.parent.parent, path.parent, 1 << 30)
    return open_model(files, engine, found.shaped, batching)


def trial_job(root, **more):
    """Return the trial of version 1 of the model ``m`` in the repository ``root``."""
    settings = {
        "root": str(root),
        "folder": str(root / "m" / "1"),
        "config": "",
        "device": "cpu",
        "kernels": "auto",
        "instructions": "",
        "threads": 1,
        "arena_bytes": 1 << 28,
        "seconds": 30,
        "batching_seconds": 30,
        "max_bytes": 1 << 32,
    }
    return TrialJob(**settings | more)
