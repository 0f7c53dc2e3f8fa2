"""OpenVINO on CPU, in float32.

The CPU plugin computes float16 and bfloat16 in float32, and rounds the results. It computes float64
in float32, too; float64 therefore does not count as supported.
"""

import ml_dtypes
import openvino as ov

PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 where the processor has it
    "INFERENCE_NUM_THREADS": 1,  # idle threads would spin while other runtimes run
}


def versions():
    return {"openvino": ov.__version__}


def load(path, inputs, outputs):
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", PROPERTIES)

    def run(arrays):
        request = compiled.create_infer_request()
        for name, array in arrays.items():
            request.set_tensor(name, _tensor(array))
        request.infer()
        return {name: _array(request.get_tensor(name)) for name in outputs}

    return run


def _tensor(array):
    if array.dtype != ml_dtypes.bfloat16:
        return ov.Tensor(array)
    tensor = ov.Tensor(ov.Type.bf16, ov.Shape(array.shape))
    bits = tensor.data  # an array of float16, as NumPy itself has no bfloat16
    bits[...] = array.view(bits.dtype)
    return tensor


def _array(tensor):
    array = tensor.data.copy()
    return array.view(ml_dtypes.bfloat16) if tensor.element_type == ov.Type.bf16 else array
