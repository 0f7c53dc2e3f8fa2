"""Activations in the usual spelling of Keras and TensorFlow, exported by tf2onnx.

``python keras_model.py FILE``, in an environment of `tf2onnx.txt`.
"""

import math
import sys

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx


def sinc(x):
    """Divide by a denominator that is never 0: tf2onnx writes `tf.where` as a sum of products."""
    angle = math.pi * x
    is_zero = tf.equal(angle, 0.0)
    safe = tf.where(is_zero, tf.ones_like(angle), angle)
    return tf.where(is_zero, tf.ones_like(angle), tf.sin(safe) / safe)


ACTIVATIONS = {
    "sinc": lambda a, _: sinc(a),
    "sigmoid": lambda a, _: keras.activations.sigmoid(a),
    "swish": lambda a, _: keras.activations.silu(a),
    "gelu": lambda a, _: keras.activations.gelu(a),
    "mish": lambda a, _: keras.activations.mish(a),
    "hardswish": lambda a, _: keras.activations.hard_silu(a),
    "glu": lambda a, b: keras.activations.glu(tf.concat([a, b], axis=-1)),
    "reglu": lambda a, b: tf.nn.relu(a) * b,
    "geglu-none": lambda a, b: tf.nn.gelu(a) * b,
    "geglu-tanh": lambda a, b: tf.nn.gelu(a, approximate=True) * b,
    "swiglu-linear": lambda a, b: tf.nn.silu(a) * b,
    "swiglu-sigmoid": lambda a, b: tf.nn.silu(a) * tf.nn.sigmoid(b),
}

WEIGHTS = np.random.default_rng(0).standard_normal((len(ACTIVATIONS), 2, 6, 8)).astype(np.float32)


@tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32, name="x")])
def model(x):
    pairs = zip(ACTIVATIONS.items(), WEIGHTS, strict=True)
    return {name: activation(x @ one, x @ other) for (name, activation), (one, other) in pairs}


if __name__ == "__main__":
    written, _ = tf2onnx.convert.from_function(model, model.input_signature, opset=18)
    onnx.save(written, sys.argv[1])
