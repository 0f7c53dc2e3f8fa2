"""Each record's float32 graph, run by ONNX Runtime, against Torch and Torch's own export.

python -m benchmarks.graphs
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import onnx_ir as ir
import onnxruntime as ort
import torch
from torch import nn

from benchmarks.timing import machine, medians
from export import signature
from export.graph import graphs_of, to_bytes
from export.trace import trace
from models import ACTIVATIONS, Activation, Operator

SIZES = (64, 4096, 65_536, 1_048_576)
THREADS = 2


class TorchSinc(nn.Module):
    """Torch's own sinc: what is exported where nobody minds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sinc(x)


def main() -> None:
    torch.set_num_threads(THREADS)
    print(f"float32, {THREADS} threads, on {machine()}; onnxruntime {ort.__version__}, ")
    print(f"torch {torch.__version__}. Microseconds of our graph; the others as multiples of it.\n")
    print("| graph | elements | ours, µs | torch.onnx.export | torch eager |")
    print("|---|---|---|---|---|")
    for activation, operator, graph in _cases():
        for size in SIZES:
            print(_row(activation, operator, graph, size), flush=True)


def _cases() -> Iterator[tuple[Activation, Operator, signature.Graph]]:
    for activation in ACTIVATIONS.values():
        for operator, graph in itertools.product(activation.operators, ("value", "grad")):
            yield activation, operator, graph


def _row(activation: Activation, operator: Operator, graph: signature.Graph, size: int) -> str:
    inputs = {name: torch.randn(size) for name in activation.inputs}
    calls = {
        "ours": _session(_ours(activation, operator, graph), inputs),
        "eager": _eager(activation, operator, graph, inputs),
    }
    if graph == "value":
        calls["exported"] = _session(_exported(activation, operator), inputs)
    seconds = medians(calls)
    ours = seconds["ours"]
    exported = f"{seconds['exported'] / ours:.2f}" if "exported" in seconds else "–"
    name = f"{activation.stem(operator)} {graph}"
    return f"| {name} | {size} | {ours * 1e6:.1f} | {exported} | {seconds['eager'] / ours:.2f} |"


@functools.cache
def _ours(activation: Activation, operator: Operator, graph: signature.Graph) -> bytes:
    return to_bytes(graphs_of(activation, operator, ["float32"])[graph, "float32"])


@functools.cache
def _exported(activation: Activation, operator: Operator) -> bytes:
    """What ``torch.onnx.export`` makes of the module by itself."""
    module = TorchSinc() if activation.name == "sinc" else operator.build()
    arguments = {name: torch.ones(2) for name in activation.inputs}
    size = torch.export.Dim("n")
    model = trace(module, arguments, (), dynamic_shapes=tuple({0: size} for _ in arguments))
    return ir.to_proto(model).SerializeToString()


def _session(model: bytes, inputs: dict[str, torch.Tensor]) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {name: tensor.numpy() for name, tensor in inputs.items()}
    return lambda: session.run(None, given)


def _eager(
    activation: Activation,
    operator: Operator,
    graph: signature.Graph,
    inputs: dict[str, torch.Tensor],
) -> Callable[[], object]:
    tensors = list(inputs.values())
    module = operator.build(**activation.defaults(operator))
    if graph == "value":
        return torch.no_grad()(lambda: module(*tensors))
    leaves = [tensor.requires_grad_() for tensor in tensors]

    def value_and_gradients() -> object:
        result = module(*leaves)
        return result, torch.autograd.grad(result.sum(), leaves)

    return value_and_gradients


if __name__ == "__main__":
    main()
