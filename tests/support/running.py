"""Runs of test models with ONNX Runtime, or with onnx's evaluator if it does not support them."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

TOLERANCES = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 3e-6, "float64": 1e-12}


def run(model, inputs, *, evaluator=False):
    proto = ir.to_proto(model)
    if evaluator:
        return ReferenceEvaluator(proto).run(None, inputs)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, inputs)


def generated(model, seed=0, size=3):
    """Return inputs for ``model``; symbolic sizes become ``size``."""
    random = np.random.default_rng(seed)
    return {
        value.name: np.asarray(
            3 * random.standard_normal([d if isinstance(d, int) else size for d in value.shape])
        ).astype(value.dtype.numpy())
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    }


def check_same(original, rewritten, dtype="float32", *, evaluator=False, inputs=None):
    """Check that both are valid and give equal results within the tolerance of ``dtype``."""
    for model in (original, rewritten):
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
    inputs = generated(original) if inputs is None else inputs
    want = run(original, inputs, evaluator=evaluator)
    got = run(rewritten, inputs, evaluator=evaluator)
    for one, other in zip(want, got, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            np.asarray(other, np.float64),
            np.asarray(one, np.float64),
            rtol=TOLERANCES[dtype],
            atol=TOLERANCES[dtype],
        )
