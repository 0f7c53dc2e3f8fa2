"""JAX on CPU, with the functions into which jaxonnxruntime converts a model."""

import importlib.metadata

import jax
import numpy as np
import onnx
from jaxonnxruntime import call_onnx, config

jax.config.update("jax_enable_x64", True)  # without it, JAX computes float64 in float32
# Cast is refused with the default.
config.update("jaxort_only_allow_initializers_as_static_args", False)


def versions():
    packages = ("jaxonnxruntime", "jax", "jaxlib")
    return {name: importlib.metadata.version(name) for name in packages}


def load(path, inputs, outputs):
    model = onnx.load(path)
    given = [value.name for value in model.graph.output]

    def run(arrays):
        function, weights = call_onnx.call_onnx_model(model, arrays)
        named = dict(zip(given, jax.jit(function)(weights, arrays), strict=True))
        return {name: np.asarray(named[name]) for name in outputs}

    return run
