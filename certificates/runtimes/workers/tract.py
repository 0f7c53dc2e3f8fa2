"""tract, on CPU."""

import os

import tract

os.environ["RUST_BACKTRACE"] = "0"  # an error would hold the stack of the Rust code


def versions():
    return {"tract": tract.version()}


def load(path, inputs, outputs):
    runnable = tract.onnx().load(path).into_model().into_runnable()

    def run(arrays):
        results = runnable.run([arrays[name] for name in inputs])
        return {name: tensor.to_numpy() for name, tensor in zip(outputs, results, strict=True)}

    return run
