"""ONNX Runtime as installed, without its optimisations: each node as the model has it."""

import onnxruntime as ort

from gatewave.graphs.verify.worker import InRuntime


def versions():
    return {"onnxruntime": ort.__version__}


def load(path, inputs, outputs):
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = 1  # idle threads would spin while others run
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return InRuntime(session).run
