"""Models of a few nodes, lowered for a target, checked and run."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import parser
from onnx.reference import ReferenceEvaluator

from gatewave.graphs import targets
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.rewrite.lower.problems import problems

WINDOWS = np.array([[-30.0, -2.5, -0.5, 0.0], [0.25, 1.0, 3.0, 40.0]], np.float32)
"""Values from the linear parts and the middle of activations."""


def model(text, opset=28, ir_version=10, imports=""):
    return parser.parse_model(
        f'<ir_version: {ir_version}, opset_import: ["" : {opset}{imports}]> {text}'
    )


def unary(op, dtype="float", **rest):
    return model(f"g ({dtype}[n, 4] x) => ({dtype}[n, 4] y) {{ y = {op} (x) }}", **rest)


def lowered(proto, target):
    """Return the model and the changes; the model is valid and has no problem left."""
    known = targets.find(target)
    made = ir.from_proto(proto)
    changes = lower(made, known).changes
    assert [problem for problem in problems(made, known) if problem.known] == []
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    return after, changes


def op_types(proto):
    return [node.op_type for node in proto.graph.node]


def run(proto, *arrays):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def evaluate(proto, *arrays):
    """Evaluate ``proto`` with ONNX's reference evaluator."""
    names = [port.name for port in proto.graph.input]
    return ReferenceEvaluator(proto).run(None, dict(zip(names, arrays, strict=True)))
