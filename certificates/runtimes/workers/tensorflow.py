"""TensorFlow on CPU: models of fixed shapes, as Keras models into which onnx2tf converts them."""

import shutil
import tempfile

import onnx2tf
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)


def versions():
    return {"tensorflow": tf.__version__, "onnx2tf": onnx2tf.__version__}


def load(path, inputs, outputs):
    model = _converted(path, inputs)
    compiled = tf.function(model, autograph=False)  # autograph would leave Python files behind
    if fixed := {*inputs} - {*model.input_names}:
        raise ValueError(f"onnx2tf makes constants of inputs that have defaults: {fixed}")

    def run(arrays):
        results = compiled({name: tf.constant(array) for name, array in arrays.items()})
        several = results if isinstance(results, (list, tuple)) else [results]
        named = dict(zip(model.output_names, several, strict=True))
        return {name: named[name].numpy() for name in outputs}

    return run


def _converted(path, inputs):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, f"{folder}/model.onnx")  # onnx2tf 2.6.9 overwrites its input file
        return onnx2tf.convert(
            input_onnx_file_path=f"{folder}/model.onnx",
            output_folder_path=folder,
            tflite_backend="tf_converter",
            disable_model_save=True,
            keep_shape_absolutely_input_names=inputs,
            not_use_onnxsim=True,
            non_verbose=True,
        )
