"""ONNX Runtime, of any version, on CPU."""

import onnxruntime as ort


def versions():
    return {"onnxruntime": ort.__version__}


def load(path, inputs, outputs):
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = 1  # idle threads would spin while others run
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda arrays: dict(zip(outputs, session.run(outputs, arrays), strict=True))
