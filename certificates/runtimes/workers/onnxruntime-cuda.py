"""ONNX Runtime on CUDA, never on CPU instead: without a GPU it refuses models."""

import onnxruntime as ort

PROVIDER = "CUDAExecutionProvider"

ort.preload_dlls()


def versions():
    return {"onnxruntime-gpu": ort.__version__, "cuda": ort.cuda_version}


def load(path, inputs, outputs):
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    # Float32 is to be float32: TF32 has 10 bits after the point.
    session = ort.InferenceSession(path, options, providers=[(PROVIDER, {"use_tf32": "0"})])
    if session.get_providers()[0] != PROVIDER:
        raise RuntimeError("CUDA does not work here: ONNX Runtime would take the CPU instead")
    return lambda arrays: dict(zip(outputs, session.run(outputs, arrays), strict=True))
