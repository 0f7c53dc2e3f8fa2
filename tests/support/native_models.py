"""Small models of our operators, and sessions in which native kernels run them."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from gatewave.export.accuracy.certify import Kernels
from gatewave.graphs.ops.signature import DOMAIN

SCALAR = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, None)
INSTRUCTIONS = ("avx512", "avx2", "x86-64", "neon")


def model(nodes, inputs, outputs):
    """Return a model of nodes of our domain, without their function bodies."""
    drawn = helper.make_graph(nodes, "kernels", inputs, outputs)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    made = helper.make_model(drawn, opset_imports=imports, ir_version=8)
    return made.SerializeToString()


def operator_model(op_type, inputs, outputs, shape=None, kind=TensorProto.FLOAT):
    """Return a model of one node; ``inputs`` and ``outputs`` are names, or ready-made ports."""

    def port(name):
        return helper.make_tensor_value_info(name, kind, shape)

    def name(port):
        return port if isinstance(port, str) else port.name

    node = helper.make_node(op_type, [*map(name, inputs)], [*map(name, outputs)], domain=DOMAIN)
    ports = [
        [port(given) if isinstance(given, str) else given for given in side]
        for side in (inputs, outputs)
    ]
    return model([node], *ports)


def options(library, instructions="", threads=1, **attributes):
    made = ort.SessionOptions()
    made.log_severity_level = 4
    made.intra_op_num_threads = threads
    for name, value in attributes.items():
        setattr(made, name, value)
    Kernels(Path(library), instructions).register(made)
    return made


def session(library, content, **settings):
    return ort.InferenceSession(
        content, options(library, **settings), providers=["CPUExecutionProvider"]
    )


def run(library, content, inputs, **settings):
    return session(library, content, **settings).run(None, inputs)


def numbers(*shape, seed=0, dtype=np.float32):
    return np.asarray(3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)
