"""Activations in the usual spelling of JAX, each after layers of its own, exported by jax2onnx.

``python jax_model.py FILE``, in an environment of `jax2onnx.txt`.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax2onnx import to_onnx

ACTIVATIONS = {
    "sinc": lambda a, _: jnp.sinc(a),
    "sigmoid": lambda a, _: jax.nn.sigmoid(a),
    "swish": lambda a, _: jax.nn.silu(a),
    "gelu": lambda a, _: jax.nn.gelu(a, approximate=False),
    "mish": lambda a, _: jax.nn.mish(a),
    "hardswish": lambda a, _: jax.nn.hard_swish(a),
    "glu": lambda a, b: jax.nn.glu(jnp.concatenate([a, b], axis=-1)),
    "reglu": lambda a, b: jax.nn.relu(a) * b,
    "geglu-none": lambda a, b: jax.nn.gelu(a, approximate=False) * b,
    "geglu-tanh": lambda a, b: jax.nn.gelu(a) * b,
    "swiglu-linear": lambda a, b: jax.nn.silu(a) * b,
    "swiglu-sigmoid": lambda a, b: jax.nn.silu(a) * jax.nn.sigmoid(b),
}

WEIGHTS = np.random.default_rng(0).standard_normal((len(ACTIVATIONS), 2, 6, 8)).astype(np.float32)


def model(x):
    pairs = zip(ACTIVATIONS.values(), WEIGHTS, strict=True)
    return tuple(activation(x @ one, x @ other) for activation, (one, other) in pairs)


if __name__ == "__main__":
    written = to_onnx(
        model, [("B", 6)], opset=21, input_names=["x"], output_names=list(ACTIVATIONS)
    )
    onnx.save(written, sys.argv[1])
