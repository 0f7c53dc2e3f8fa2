"""LiteRT (formerly TensorFlow Lite) on CPU: models of fixed shapes, converted by onnx2tf."""

import shutil
import tempfile
from pathlib import Path

import ai_edge_litert
import onnx2tf
from ai_edge_litert.interpreter import Interpreter


def versions():
    return {"ai-edge-litert": ai_edge_litert.__version__, "onnx2tf": onnx2tf.__version__}


def load(path, inputs, outputs):
    interpreter = Interpreter(model_content=_converted(path, inputs), num_threads=1)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()

    def run(arrays):
        results = signature(**arrays)
        return {name: results[name] for name in outputs}

    return run


def _converted(path, inputs):
    """Return the converted model in float32; onnx2tf also writes one in float16.

    LiteRT has no kernels for the latter on CPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, f"{folder}/model.onnx")  # onnx2tf 2.6.9 overwrites its input file
        onnx2tf.convert(
            input_onnx_file_path=f"{folder}/model.onnx",
            output_folder_path=folder,
            copy_onnx_input_output_names_to_tflite=True,
            keep_shape_absolutely_input_names=inputs,
            not_use_onnxsim=True,
            non_verbose=True,
        )
        return Path(folder, "model_float32.tflite").read_bytes()
