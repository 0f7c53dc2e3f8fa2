"""ONNX's own node tests of activations, in more element types, stamped with any opset."""

import importlib
import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto
from onnx.backend.test.case import node as node_tests

MODULES = ("gelu", "hardswish", "mish", "swiglu", "swish")
OPSETS = (24, 25, 26, 27, 28)
KINDS = {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}
CLOSE = {"float16": 1e-3, "float32": 1e-3, "float64": 1e-12}
"""Tolerance of the node tests, which is an ulp of float16."""


@dataclass(frozen=True)
class Case:
    name: str
    model: onnx.ModelProto
    inputs: tuple
    outputs: tuple
    rtol: float

    def stamped(self, opset):
        """Return the same model at another opset; it keeps its IR version."""
        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        del model.opset_import[:]
        model.opset_import.add(version=opset)
        return model

    def opsets(self):
        """Return the opsets that have its operators."""
        op_types = [node.op_type for node in self.model.graph.node]
        first = max(onnx.defs.get_schema(op_type, 28).since_version for op_type in op_types)
        return [opset for opset in OPSETS if opset >= first]


def cases():
    """Yield every test of the five activations as ONNX has it, and in float16 and float64."""
    for case in _collected():
        inputs, outputs = case.data_sets[0]
        dtype = inputs[0].dtype.name
        yield Case(case.name, case.model, tuple(inputs), tuple(outputs), CLOSE[dtype])
        if dtype == "float32" and not case.name.endswith("expanded"):
            for other in KINDS:
                yield _in(other, case.name, case.model, inputs)


def _collected():
    for name in MODULES:
        importlib.import_module(f"onnx.backend.test.case.node.{name}")
    wanted = tuple(f"test_{name}" for name in MODULES)
    collected = node_tests._NodeTestCases  # noqa: SLF001 - the public loader makes all 3,000
    found = {c.name: c for c in collected if c.name.startswith(wanted)}
    return [found[name] for name in sorted(found)]


def _in(dtype, name, model, inputs):
    """Return the same test in another element type.

    ONNX's reference evaluator is too inexact for the results: it takes 1/6 and √2 as float32, in
    float64 too.
    """
    given = tuple(array.astype(dtype) for array in inputs)
    formula = next(f for prefix, f in FORMULAS.items() if name.startswith(f"test_{prefix}"))
    alpha = next((a.f for a in model.graph.node[0].attribute if a.name == "alpha"), 1.0)
    result = formula(alpha, *(array.astype("float64") for array in given)).astype(dtype)
    # What runs by itself is left to ONNX's body, which takes √(2/π) as float32.
    rtol = max(CLOSE[dtype], 1e-6 if "gelu_tanh" in name else 0)
    return Case(f"{name}-{dtype}", _typed(model, KINDS[dtype]), given, (result,), rtol)


def _swish(alpha, x):
    return x / (1 + np.exp(-alpha * x))


FORMULAS = {
    "gelu_default": lambda _, x: x / 2 * np.vectorize(math.erfc)(-x / math.sqrt(2)),
    "gelu_tanh": lambda _, x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hardswish": lambda _, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "mish": lambda _, x: x * np.tanh(np.logaddexp(0, x)),
    "swiglu": lambda alpha, a, b: _swish(alpha, a) * b,
    "swish": _swish,
}
"""Formulas of the operators' documentation."""


def _typed(model, kind):
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for port in (*copy.graph.input, *copy.graph.output):
        port.type.tensor_type.elem_type = kind
    return copy


def assert_close(case, results):
    for got, want in zip(results, case.outputs, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=case.rtol, atol=case.rtol * 1e-1)
