"""ONNX Runtime on CUDA. Without a usable GPU it refuses models."""

import onnxruntime as ort

PROVIDER = "CUDAExecutionProvider"

ort.preload_dlls()


def versions():
    return {"onnxruntime-gpu": ort.__version__, "cuda": ort.cuda_version}


def load(path, inputs, outputs):
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    # By default CUDA multiplies float32 matrices in TF32, which has 10 bits after the point.
    session = ort.InferenceSession(path, options, providers=[(PROVIDER, {"use_tf32": "0"})])
    # ONNX Runtime falls back to the CPU with no more than a warning (microsoft/onnxruntime#23372).
    if session.get_providers()[0] != PROVIDER:
        raise RuntimeError("CUDA does not work here: ONNX Runtime would take the CPU instead")
    return lambda arrays: dict(zip(outputs, session.run(outputs, arrays), strict=True))
