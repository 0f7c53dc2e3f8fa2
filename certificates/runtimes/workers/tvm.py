"""Apache TVM, imported through Relax and compiled for LLVM's default processor.

Loading a model takes one to two seconds.
"""

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def versions():
    return {"apache-tvm": tvm.__version__, "onnx": onnx.__version__}


def load(path, inputs, outputs):
    built = tvm.compile(from_onnx(onnx.load(path)), "llvm")
    main = relax.VirtualMachine(built, tvm.cpu())["main"]

    def run(arrays):
        results = main(*(tvm.runtime.tensor(arrays[name]) for name in inputs))
        tensors = [results] if isinstance(results, tvm.runtime.Tensor) else list(results)
        return {name: tensor.numpy() for name, tensor in zip(outputs, tensors, strict=True)}

    return run
