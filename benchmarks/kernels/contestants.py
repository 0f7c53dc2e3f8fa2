"""Contestants: calls that compute a case on the same inputs.

A call writes to given outputs, or returns new results, as Torch eager and Torch's gradients do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.kernels.case import Case
from benchmarks.kernels.runtime import THREADS, bound, single_node

OURS = "ours"
EXPORTED = "torch.onnx.export"
BODY = "function body"
EAGER = "Torch eager"
COMPILED = "torch.compile"
NUMPY = "NumPy"
OPENVINO = "OpenVINO"
RIVALS = (EXPORTED, BODY, EAGER, COMPILED, NUMPY, OPENVINO)

ABS = "Abs"
ROOF = "the roof"

SOME = 4096
LOOSE = {"float32": 1e-3, "float64": 1e-10}
"""Tolerance of the first results against the plain formula, which cancels near sinc's zeros."""

SMALL = 64
"""Size at which the cost of a call dominates; it is compared with one standard node."""

Call = Callable[[], Sequence[Tensor] | None]


@dataclass(frozen=True)
class Round:
    """A case at one size, and its tensors."""

    case: Case
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    library: Path

    @property
    def size(self) -> int:
        return self.inputs[0].numel()


def calls(this: Round, without: Sequence[str]) -> dict[str, Call]:
    """Return the contestants that can compute the case, by name.

    Raises:
        ValueError: The results of one differ.
    """
    found: dict[str, Call] = {}
    for name, build in BUILDERS.items():
        call = None if name in without else _attempt(name, build, this)
        if call is not None:
            found[name] = call
            if name not in (ABS, ROOF):
                _verify(name, call, this)
    return found


def _attempt(name: str, build: Callable[[Round], Call | None], this: Round) -> Call | None:
    """Return the call, or None if a rival does not support the case, such as a 16-bit type."""
    try:
        call = build(this)
        if call is not None:
            call()
    except Exception:
        if name == OURS:
            raise
        return None
    return call


def _verify(name: str, call: Call, this: Round) -> None:
    """Check the results against the plain formula, which is too inexact in 16 bits."""
    if this.case.dtype not in LOOSE:
        return
    for output in this.outputs:
        output.fill_(torch.nan)
    got = call() or this.outputs
    want = this.case.plain(*(tensor[:SOME] for tensor in this.inputs))
    for one, other in zip(got, want, strict=True):
        error = (one[:SOME] - other).abs().max().item()
        if not error <= LOOSE[this.case.dtype]:
            raise ValueError(f"{name} computes {this.case.name} with an error of {error:.2g}")


def _ours(this: Round) -> Call:
    return bound(this.case.ours, this.inputs, this.outputs, this.library)


def _exported(this: Round) -> Call:
    return bound(this.case.exported, this.inputs, this.outputs)


def _body(this: Round) -> Call:
    return bound(this.case.ours, this.inputs, this.outputs)


def _eager(this: Round) -> Call:
    if this.case.graph == "grad":
        return _by_autograd(this, this.case.formula.value)
    return lambda: this.case.plain(*this.inputs)


def _compiled(this: Round) -> Call:
    torch.compiler.reset()  # Torch limits how often it compiles the same code
    if this.case.graph == "grad":
        return _by_autograd(this, torch.compile(this.case.formula.value, dynamic=False))

    def into(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        for output, result in zip(outputs, this.case.plain(*inputs), strict=True):
            output.copy_(result)

    function = torch.compile(into, dynamic=False)
    return lambda: function(this.outputs, this.inputs)


def _by_autograd(this: Round, function: Callable[..., Tensor]) -> Call:
    """Return a call of forward and backward, as in training, with a gradient of ones."""
    leaves = [tensor.detach().requires_grad_() for tensor in this.inputs]
    ones = torch.ones_like(leaves[0])

    def call() -> Sequence[Tensor]:
        with torch.enable_grad():
            value = function(*leaves)
        return value.detach(), *torch.autograd.grad(value, leaves, ones)

    return call


def _numpy(this: Round) -> Call | None:
    formula = this.case.formula
    function = formula.numpy_value if this.case.graph == "value" else formula.numpy_gradients
    if function is None:
        return None
    inputs = [tensor.numpy() for tensor in this.inputs]
    outputs = [tensor.numpy() for tensor in this.outputs]

    def call() -> None:
        function(outputs, *inputs)

    return call


def _openvino(this: Round) -> Call | None:
    if find_spec("openvino") is None:
        return None
    import openvino  # noqa: PLC0415 - an optional rival

    core = openvino.Core()
    model = core.read_model(this.case.decomposed)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": THREADS})
    request = compiled.create_infer_request()
    for index, tensor in enumerate(this.inputs):
        request.set_input_tensor(index, openvino.Tensor(tensor.numpy(), shared_memory=True))
    for index, tensor in enumerate(this.outputs):
        request.set_output_tensor(index, openvino.Tensor(tensor.numpy(), shared_memory=True))

    def call() -> None:
        request.infer()

    return call


def _abs(this: Round) -> Call | None:
    if this.size != SMALL:
        return None
    return bound(single_node("Abs", this.case.dtype, 1), this.inputs[:1], this.outputs[:1])


def _roof(this: Round) -> Call:
    """Return a call that moves the same bytes with almost no computation: the memory limit."""
    if this.case.graph == "value":
        count = len(this.inputs)
        node = single_node({1: "Abs", 2: "Add"}[count], this.case.dtype, count)
        return bound(node, this.inputs, this.outputs)
    # ONNX Runtime copies with one thread; Torch with two, as fast as two threads of memcpy.
    count = (len(this.inputs) + len(this.outputs)) * this.size // 2
    source, target = (torch.ones(count, dtype=this.inputs[0].dtype) for _ in range(2))

    def call() -> None:
        target.copy_(source)

    return call


BUILDERS: Mapping[str, Callable[[Round], Call | None]] = {
    OURS: _ours,
    EXPORTED: _exported,
    BODY: _body,
    EAGER: _eager,
    COMPILED: _compiled,
    NUMPY: _numpy,
    OPENVINO: _openvino,
    ABS: _abs,
    ROOF: _roof,
}
