"""Measured graphs, and their inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.graphs import blocks

FOLDER = Path(".graphs")
"""Folder in which `make` installs the packages of requirements.txt."""

SEED = 0

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Graph:
    """Model file with its name in the table, and realistic inputs."""

    name: str
    path: Path
    inputs: Arrays


def graphs(folder: Path, scratch: Path, only: Collection[str] = ()) -> Iterator[Graph]:
    """Yield the graphs of packages in ``folder``, and two from Torch, written to ``scratch``.

    Args:
        folder: Folder of the packages.
        scratch: Any folder.
        only: Names, if not all are wanted.

    Raises:
        FileNotFoundError: A package is missing, or lacks the file.
    """
    source = np.random.default_rng(SEED)
    wanted = {*PACKAGED, *EXPORTED} if not only else {*only}
    for name, (path, inputs) in PACKAGED.items():
        if name not in wanted:
            continue
        if not (folder / path).exists():
            raise FileNotFoundError(f"{folder / path} is missing: make {folder}/.made")
        yield Graph(name, folder / path, inputs(source))
    for name, (module, drawn) in EXPORTED.items():
        if name not in wanted:
            continue
        torch.manual_seed(SEED)
        tensors = drawn()
        path = scratch / f"{name}.onnx"
        blocks.export(module(), tensors, path)
        yield Graph(name, path, {key: tensor.numpy() for key, tensor in tensors.items()})


def _image(name: str, height: int, width: int) -> Callable[[np.random.Generator], Arrays]:
    return lambda source: {name: source.random((1, 3, height, width), np.float32)}


def _sound(source: np.random.Generator) -> Arrays:
    """Return a window of 32 ms at 16 kHz, after the last samples of the previous window."""
    return {
        "input": source.standard_normal((1, 576)).astype(np.float32) * 0.1,
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16_000),
    }


def _bytes(source: np.random.Generator) -> Arrays:
    return {"bytes": source.integers(0, 256, (1, 2048)).astype(np.int32)}


PACKAGED: Mapping[str, tuple[str, Callable[[np.random.Generator], Arrays]]] = {
    "nudenet 320n": ("nudenet/320n.onnx", _image("images", 320, 320)),
    "PP-OCRv6 det": ("rapidocr/models/PP-OCRv6_det_small.onnx", _image("x", 640, 640)),
    "PP-OCRv6 rec": ("rapidocr/models/PP-OCRv6_rec_small.onnx", _image("x", 48, 320)),
    "silero-vad": ("silero_vad/data/silero_vad.onnx", _sound),
    "silero-vad, ifless": ("silero_vad/data/silero_vad_op18_ifless.onnx", _sound),
    "magika": ("magika/models/standard_v3_3/model.onnx", _bytes),
}

EXPORTED: Mapping[str, tuple[type[torch.nn.Module], Callable[[], dict[str, torch.Tensor]]]] = {
    "Llama block": (blocks.LlamaBlock, blocks.llama_inputs),
    "SincNet front end": (blocks.SincFrontEnd, blocks.sinc_inputs),
}
