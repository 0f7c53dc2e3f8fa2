"""Certification and bandwidth of the kernels on a GPU.

Bandwidth is measured as a share of that of a copy in GPU memory: ONNX Runtime's Identity, in the
same process and in turns. The benchmark needs onnxruntime-gpu, a GPU, and the library:

    python -m benchmarks.cuda service/libgatewave_cuda.so
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from benchmarks.timing import turns
from gatewave.export.accuracy import certify
from gatewave.export.operators import graphs_of, to_bytes
from gatewave.graphs.ops import signature
from gatewave.models import ACTIVATIONS, DTYPES, Activation, DType, Operator

CUDA = "CUDAExecutionProvider"
GRAPHS: tuple[signature.Graph, ...] = ("value", "grad", "vjp")
ELEMENTS = 256 << 20
TURNS = 15
GOAL = 0.9
"""Smallest accepted share of a copy's bandwidth, in the types below."""
MEASURED: tuple[DType, ...] = ("float32", "float16", "bfloat16")
ONNX: dict[DType, int] = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
BYTES: dict[DType, int] = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", type=Path, help="libgatewave_cuda.so")
    parser.add_argument("--elements", type=int, default=ELEMENTS)
    given = parser.parse_args()
    if why := missing():
        raise SystemExit(f"The kernels for GPUs cannot be measured here: {why}.")
    certify_all(given.library)
    print("| graph | type | bandwidth, GB/s | of a copy |")
    print("|---|---|---|---|")
    for dtype in MEASURED:
        for row in measured(given.library, dtype, given.elements):
            print(row, flush=True)


def missing() -> str | None:
    """Return the reason why CUDA does not work, or None if it does."""
    if CUDA not in ort.get_available_providers():
        return f"this onnxruntime {ort.__version__} has no {CUDA}"
    ort.preload_dlls()
    try:
        opened(node_model("Identity", "float32"), None)
    except RuntimeError as error:
        return str(error)
    return None


def opened(model: bytes, library: Path | None) -> ort.InferenceSession:
    """Return a session on the GPU.

    Raises:
        RuntimeError: ONNX Runtime put it elsewhere.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(str(library))
        # Otherwise, a missing kernel would be replaced by a function body on the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(model, options, providers=[CUDA])
    if session.get_providers()[0] != CUDA:
        raise RuntimeError(f"{CUDA} was asked for, {session.get_providers()[0]} answered")
    return session


def certify_all(library: Path) -> None:
    """Certify every graph of every record in every type.

    Raises:
        ToleranceError: A result is further from the exact one than the record allows.
    """
    for activation in ACTIVATIONS.values():
        for operator in activation.operators:
            for graph in GRAPHS:
                for dtype in DTYPES:
                    certify_one(library, activation, operator, graph, dtype)


def certify_one(
    library: Path, activation: Activation, operator: Operator, graph: signature.Graph, dtype: DType
) -> None:
    """Certify one graph.

    Raises:
        ToleranceError: A result is further from the exact one than the record allows.
    """
    model = to_bytes(graphs_of(activation, operator, [dtype])[graph, dtype])
    certify.certify(
        model, activation, operator, graph, dtype, compute=lambda m, inputs: run(m, inputs, library)
    )


def run(model: bytes, inputs: Mapping[str, Tensor], library: Path) -> dict[str, Tensor]:
    """Run on the GPU. ONNX Runtime receives all types by DLPack, and copies them to the GPU."""
    session = opened(model, library)
    names = [output.name for output in session.get_outputs()]
    given = {name: ort.OrtValue.from_dlpack(tensor) for name, tensor in inputs.items()}
    results = session.run_with_ort_values(names, given)
    return {name: from_dlpack(r) for name, r in zip(names, results, strict=True)}


def measured(library: Path, dtype: DType, elements: int) -> list[str]:
    """Yield a row for each graph; all graphs and the copy run in turns."""
    tensors = [numbers(dtype, elements) for _ in range(3)]
    copy = opened(node_model("Identity", dtype), None)
    rows = []
    for activation in ACTIVATIONS.values():
        for operator in activation.operators:
            for graph in GRAPHS:
                model = to_bytes(graphs_of(activation, operator, [dtype])[graph, dtype])
                inputs = len(signature.inputs(activation, graph))
                outputs = len(signature.outputs(activation, graph))
                kernel = opened(model, library)
                calls = {
                    "copy": bound(copy, tensors[:1], 1, dtype, elements),
                    "kernel": bound(kernel, tensors[:inputs], outputs, dtype, elements),
                }
                seconds = {
                    name: statistics.median(samples)
                    for name, samples in turns(calls, TURNS).items()
                }
                moved = (inputs + outputs) * BYTES[dtype] * elements
                rate = moved / seconds["kernel"]
                share = rate / (2 * BYTES[dtype] * elements / seconds["copy"])
                mark = "" if share >= GOAL else f" (below {GOAL})"
                name = f"{activation.stem(operator)} {graph}"
                rows.append(f"| {name} | {dtype} | {rate / 1e9:.0f} | {share:.2f}{mark} |")
    return rows


def bound(
    session: ort.InferenceSession,
    inputs: Sequence[ort.OrtValue],
    outputs: int,
    dtype: DType,
    elements: int,
) -> Callable[[], object]:
    """Return a call of the session with tensors that stay in GPU memory."""
    binding = session.io_binding()
    for value, tensor in zip(session.get_inputs(), inputs, strict=False):
        binding.bind_ortvalue_input(value.name, tensor)
    for value in session.get_outputs()[:outputs]:
        binding.bind_ortvalue_output(value.name, empty(dtype, elements))

    def call() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return call


def empty(dtype: DType, elements: int) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type([elements], ONNX[dtype], "cuda", 0)


def numbers(dtype: DType, elements: int) -> ort.OrtValue:
    """Return normal numbers in GPU memory, converted there."""
    few = np.random.default_rng(0).standard_normal(min(elements, 1 << 20), np.float32)
    wide = ort.OrtValue.ortvalue_from_numpy(np.resize(few, elements), "cuda", 0)
    if dtype == "float32":
        return wide
    made = empty(dtype, elements)
    session = opened(node_model("Cast", "float32", dtype, to=ONNX[dtype]), None)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", wide)
    binding.bind_ortvalue_output("y", made)
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    return made


def node_model(op_type: str, given: DType, made: DType | None = None, **attributes: int) -> bytes:
    """Return a model of one ONNX operator."""
    node = helper.make_node(op_type, ["x"], ["y"])
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    x = helper.make_tensor_value_info("x", ONNX[given], [None])
    y = helper.make_tensor_value_info("y", ONNX[made or given], [None])
    graph = helper.make_graph([node], op_type, [x], [y])
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
