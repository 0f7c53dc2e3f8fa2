"""Models without a PyPI package: a block of a language model, and an audio front end."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

OPSET = 18
WIDTH, HIDDEN, HEADS = 512, 1408, 8
TOKENS = 128
RATE, FILTERS, TAPS = 16_000, 80, 251


class LlamaBlock(nn.Module):
    """RMSNorm, attention, RMSNorm, and the SwiGLU of language models."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH) for _ in range(2))
        self.projections = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attention(self.norms[0](x))
        y = self.norms[1](x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def _attention(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query, key, value = (
            project(x).reshape(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
            for project in self.projections[:3]
        )
        found = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.projections[3](found.transpose(1, 2).reshape(batch, tokens, WIDTH))


class SincFrontEnd(nn.Module):
    """Band-pass filters of learnt edges, as of SincNet, over a waveform; then SiLU and pooling.

    The edges are an input here, as where another network predicts them: of parameters alone, the
    filters would be constants, which runtimes compute once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("times", (torch.arange(TAPS) - TAPS // 2) / RATE)
        self.register_buffer("window", torch.hamming_window(TAPS, periodic=False))

    def forward(self, sound: Tensor, edges: Tensor) -> Tensor:
        low, high = edges[:, :1], edges[:, 1:]
        band = 2 * high * torch.sinc(2 * high * self.times)
        band = band - 2 * low * torch.sinc(2 * low * self.times)
        filters = (band * self.window / RATE).unsqueeze(1)
        return F.avg_pool1d(F.silu(F.conv1d(sound, filters, stride=4)), 4)


def llama_inputs() -> dict[str, Tensor]:
    return {"x": torch.randn(1, TOKENS, WIDTH)}


def sinc_inputs() -> dict[str, Tensor]:
    low = torch.linspace(30, 6000, FILTERS)
    return {"sound": torch.randn(1, 1, RATE), "edges": torch.stack([low, low * 1.2], dim=1)}


def export(module: nn.Module, inputs: dict[str, Tensor], path: Path, opset: int = OPSET) -> None:
    """Write the module as exported by ``torch.onnx.export``, with the weights inside."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of Torch about itself
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"torch.onnx.export gave no model of {type(module).__name__}")
    program.save(path, external_data=False)
