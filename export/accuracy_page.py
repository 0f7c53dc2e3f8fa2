"""Generator of docs/accuracy.md: measured errors of every graph, and of a plain export.

``python -m gatewave.export.accuracy_page`` measures them and writes the page. The numbers depend on
the machine and its versions of ONNX Runtime and Torch, which the page names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import torch
import typer
from onnx_ir import to_proto
from torch import Tensor, nn
from torch.nn import functional

from gatewave.export import machine
from gatewave.export.accuracy import certify, reference
from gatewave.export.accuracy.certify import Measured
from gatewave.export.markdown import page, table
from gatewave.export.operators import graphs_of, to_bytes
from gatewave.export.torch.trace import trace
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import Graph
from gatewave.graphs.processes.reasons import reason_of
from gatewave.models import ACTIVATIONS, DTYPES, Activation, DType, Operator

PAGE = Path("docs/accuracy.md")
COMMAND = "python -m gatewave.export.accuracy_page"
PACKAGES = ("onnxruntime", "torch", "onnx", "onnxscript", "numpy", "mpmath")

INTRODUCTION = f"""\
# Accuracy

<!-- Measured and written by `{COMMAND}`. -->

Errors of ONNX Runtime on CPU for each exported graph. The reference is mpmath for float64, and
float64 for the other types.

- In 16 bits, each input takes all 65,536 values. With one input, the level of evidence is
  exhaustive. Several inputs, and the `grad_y` of a vector-Jacobian product, are sampled. The line
  below each table names the level.
- In float32 and float64, the inputs are sampled: a dense grid over the interesting range and
  beyond, integers, and magnitudes from the smallest subnormal to the largest number.
- In all types, every combination of special values is added (±0, ±∞, NaN, huge numbers).

Both forms of the artifacts, function and decomposed, contain the same operators and give the same
numbers. Measure again with `{COMMAND}`, or `make accuracy`."""

LEGEND = """\
Each cell has three numbers:

1. The largest error in ULP, over results with an absolute error above the absolute bound. A dash:
   there are no such results.
2. The largest absolute error, divided by the scale of the bound. A dash: the bound is in ULP only.
3. The largest share of the allowed error.

Rounding a 16-bit result near 1 is an error of up to 4.9e-4 in float16 and 3.9e-3 in bfloat16.
[activations.md](activations.md) lists the bounds."""

PEERS_INTRODUCTION = """\
## A plain export, for comparison

The same functions, exported by `torch.onnx.export` without our translations. The same ONNX Runtime
ran them on the same inputs, and the same bounds apply. Absolute errors are over finite results,
divided by the scale of the bound."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Plain Torch version of a function; ``code`` is its source."""

    code: str
    function: Callable[..., Tensor]


PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "sinc": Peer("torch.sinc(x)", torch.sinc),
        "swiglu-sigmoid": Peer(
            "F.silu(a) * torch.sigmoid(b)", lambda a, b: functional.silu(a) * torch.sigmoid(b)
        ),
        "swiglu-linear": Peer("F.silu(a) * b", lambda a, b: functional.silu(a) * b),
        "geglu-none": Peer("F.gelu(a) * b", lambda a, b: functional.gelu(a) * b),
    }
)
"""Peers by the stems of the operators that they are compared with."""


def text(activations: Mapping[str, Activation] = ACTIVATIONS) -> str:
    """Measure all graphs, and return the page."""
    ours: dict[tuple[str, DType], Measured] = {}
    sections = []
    for activation in activations.values():
        for operator in activation.operators:
            measured = measure(activation, operator)
            sections.append(_section(activation, operator, measured))
            for dtype in DTYPES:
                ours[activation.stem(operator), dtype] = measured["value", dtype]["y"]
    return page(
        [INTRODUCTION, _machine(), LEGEND, *sections, PEERS_INTRODUCTION, _peers(activations, ours)]
    )


def measure(
    activation: Activation, operator: Operator
) -> dict[tuple[Graph, DType], dict[str, Measured]]:
    """Return the errors of every output of every graph of ``operator``.

    Raises:
        GatewaveError: A graph misses its tolerance.
    """
    return {
        (graph, dtype): certify.certify(to_bytes(model), activation, operator, graph, dtype)
        for (graph, dtype), model in graphs_of(activation, operator).items()
    }


def _machine() -> str:
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"Measured on {machine.today()}, on {machine.words()}, {packages}."


def _section(
    activation: Activation,
    operator: Operator,
    measured: Mapping[tuple[Graph, DType], Mapping[str, Measured]],
) -> str:
    rows = (
        (
            graph,
            f"`{output}`",
            *(_cell(operator, output, dtype, measured[graph, dtype][output]) for dtype in DTYPES),
        )
        for graph in signature.GRAPHS
        for output in signature.outputs(activation, graph)
    )
    title, header = f"## {activation.stem(operator)}", ("graph", "output", *DTYPES)
    return "\n\n".join([title, table(header, rows).rstrip(), _evidence(activation, measured)])


def _evidence(activation: Activation, measured: Iterable[tuple[Graph, DType]]) -> str:
    """Return the levels of evidence, in a line."""
    exhaustive = [
        f"{graph} {dtype}"
        for graph, dtype in measured
        if reference.evidence(reference.samples(activation, graph, dtype)).level == "exhaustive"
    ]
    if not exhaustive:
        return "Evidence: sampled."
    return f"Evidence: exhaustive for {', '.join(exhaustive)}; sampled for all others."


def _cell(operator: Operator, output: str, dtype: DType, measured: Measured) -> str:
    absolute_bound = certify.tolerance_of(operator, output, dtype).atol > 0
    ulp = f"{measured.ulp:.2f} ULP" if measured.ulp else "–"
    absolute = f"{measured.absolute:.1e}" if absolute_bound else "–"
    return f"{ulp}, {absolute}, {measured.used:.0%}"


def _peers(
    activations: Mapping[str, Activation], ours: Mapping[tuple[str, DType], Measured]
) -> str:
    rows = (
        (
            f"`{PEERS[activation.stem(operator)].code}`",
            dtype,
            f"{ours[activation.stem(operator), dtype].absolute:.1e}",
            *_peer_errors(activation, operator, dtype),
        )
        for activation in activations.values()
        for operator in activation.operators
        if activation.stem(operator) in PEERS
        for dtype in DTYPES
    )
    header = ("", "dtype", "Gatewave's error", "plain export's", "beyond the bound", "of these NaN")
    return table(header, rows)


def _peer_errors(activation: Activation, operator: Operator, dtype: DType) -> tuple[str, str, str]:
    """Return the peer's largest error, and how many results are out of bounds, and NaN."""
    names = signature.inputs(activation, "value")
    inputs = dict(zip(names, reference.samples(activation, "value", dtype), strict=True))
    try:
        got = certify.run(_exported(PEERS[activation.stem(operator)], names, dtype), inputs)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common class
        return f"does not run: {_reason(error)}", "all", "–"
    (result,) = got.values()
    (want,) = reference.exact(activation, operator, "value", list(inputs.values()))
    scale = certify.scale_of(operator, inputs)
    infinite = torch.stack(list(inputs.values())).isinf().any(dim=0)
    tolerance = certify.tolerance_of(operator, "y", dtype)
    shares, measured = certify.measure(result, want, tolerance, scale, infinite)
    beyond = shares > 1
    nan = beyond & result.isnan()
    return (
        f"{measured.absolute:.1e}",
        f"{int(beyond.sum()):,} of {len(beyond):,}",
        f"{int(nan.sum()):,}",
    )


def _exported(peer: Peer, names: tuple[str, ...], dtype: DType) -> bytes:
    class Plain(nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return peer.function(*tensors)

    arguments = {name: torch.ones(2, dtype=getattr(torch, dtype)) for name in names}
    size = torch.export.Dim("n")
    shapes = (tuple({0: size} for _ in arguments),)
    model: bytes = to_proto(
        trace(Plain(), arguments, (), dynamic_shapes=shapes)
    ).SerializeToString()
    return model


NOISE = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : | node with name '[^']*'")


def _reason(error: Exception) -> str:
    """Return ONNX Runtime's message without error codes and the name of the node."""
    return reason_of(NOISE.sub("", str(error)))


def main(
    output: Annotated[Path, typer.Option(help="The file to write.")] = PAGE,
) -> None:
    """Measure every exported graph, and write docs/accuracy.md."""
    output.write_text(text(), encoding="utf-8")
    typer.echo(f"wrote {output}")


if __name__ == "__main__":
    typer.run(main)
