"""The reference evaluator of the onnx package."""

import numpy as np
import onnx

from gatewave.graphs.verify.evaluator import running


def versions():
    return {"onnx": onnx.__version__, "numpy": np.__version__}


def load(path, inputs, outputs):
    return running(path, outputs)
