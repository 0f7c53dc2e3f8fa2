"""IREE: a model is imported as `iree-import-onnx` does it, and compiled for a generic processor.

Loading a model takes one to three seconds, nearly all of it in the compiler, which is a process of
its own.
"""

from importlib import metadata

import iree.compiler.tools as compiler
import iree.runtime as iree
import numpy as np
import onnx
from iree.compiler.extras import onnx_importer
from iree.compiler.ir import Context

PACKAGES = ("iree-base-compiler", "iree-base-runtime", "onnx")
# By default the compiler narrows float64 to float32.
OPTIONS = ("--iree-llvmcpu-target-cpu=generic", "--iree-input-demote-f64-to-f32=false")


def versions():
    return {package: metadata.version(package) for package in PACKAGES}


def load(path, inputs, outputs):
    compiled = compiler.compile_str(
        _imported(path), input_type="onnx", target_backends=["llvm-cpu"], extra_args=OPTIONS
    )
    context = iree.SystemContext(config=iree.Config("local-sync"))
    context.add_vm_module(iree.VmModule.copy_buffer(context.instance, compiled))
    functions = context.modules.module.vm_module.function_names
    (name,) = (name for name in functions if f"{name}$async" in functions)
    function = context.modules.module[name]

    def run(arrays):
        results = function(*(arrays[name] for name in inputs))
        values = [results] if len(outputs) == 1 else results
        return {name: np.array(value) for name, value in zip(outputs, values, strict=True)}

    return run


def _imported(path):
    """Return the model in MLIR."""
    model = onnx_importer.ModelInfo(
        onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    )
    module = model.create_module(context=Context()).operation
    onnx_importer.NodeImporter.define_function(model.main_graph, module).import_all()
    module.verify()
    return module.get_asm()
