"""Torch on CPU, with the modules into which onnx2torch converts a model."""

import importlib.metadata
import sys
from types import ModuleType

import onnx
import torch

# onnx2torch 1.5.15 imports torchvision for two operators of detectors. torchvision is not among the
# requirements, as it asks for a Torch with CUDA. Only these two operators fail without it.
VISION = {name: ModuleType(name) for name in ("torchvision", "torchvision.ops")}
VISION["torchvision.ops"].roi_align = None
sys.modules.update(VISION)
import onnx2torch  # noqa: E402 - after the modules that it imports

for name in VISION:
    del sys.modules[name]  # Torch looks for torchvision, too, and must not find these

torch.set_num_threads(1)


def versions():
    return {"onnx2torch": importlib.metadata.version("onnx2torch"), "torch": torch.__version__}


def load(path, inputs, outputs):
    model = onnx.load(path)
    module = onnx2torch.convert(model).eval()
    initialized = {tensor.name for tensor in model.graph.initializer}
    taken = [value.name for value in model.graph.input if value.name not in initialized]
    given = [value.name for value in model.graph.output]
    if fixed := {*inputs} - {*taken}:
        raise ValueError(f"onnx2torch makes constants of inputs that have defaults: {fixed}")

    def run(arrays):
        tensors = [torch.from_numpy(arrays[name].copy()) for name in taken]
        with torch.inference_mode():
            results = module(*tensors)
        several = [results] if isinstance(results, torch.Tensor) else results
        named = dict(zip(given, several, strict=True))
        return {name: named[name].numpy() for name in outputs}

    return run
