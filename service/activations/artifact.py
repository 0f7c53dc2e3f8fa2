"""Artifact files of `gatewave export`: finding, reading, loading and checking them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gatewave.service.activations.model import ActivationModel
from gatewave.service.codecs.datatypes import BY_NUMPY, NUMPY, DType
from gatewave.service.codecs.rounding import narrowed
from gatewave.service.codecs.wire import MalformedError
from gatewave.service.errors import ArtifactInvalid
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.nodes import operators
from gatewave.service.onnx.session import Session
from gatewave.service.serving.model import ANY, Port

METADATA_KEY = "ai.gatewave.activation"
CERTIFICATE_KEY = "ai.gatewave.certificate"
MANIFEST = "manifest.json"
"""List of the files that `gatewave export` wrote; a folder that a user assembled has none."""
SCHEMA = 1
DEFAULT_DTYPE: DType = "float32"
GRAPHS = ("value", "grad", "vjp")
"""Kinds of graphs, the cheapest first."""

Document = dict[str, Any]
"""Record of an artifact, from its metadata."""


def check_manifest(folder: Path) -> None:
    """Check that all files of the manifest exist, if there is a manifest.

    Raises:
        ArtifactInvalid: A file is missing, or the manifest cannot be read.
    """
    manifest = folder / MANIFEST
    if not os.path.lexists(manifest):
        return
    try:
        files = json.loads(read_artifact(manifest))["files"]
        missing = [name for name in files if not (folder / name).exists()]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactInvalid(f"{manifest}: expected an object with a list of files") from error
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        msg = (
            f"{folder / missing[0]} is missing{more}, and {MANIFEST} lists it: "
            "run `gatewave export` again, or delete the manifest"
        )
        raise ArtifactInvalid(msg)


def artifact_paths(folder: Path) -> list[Path]:
    """Return the files to load: of each graph the form with the function, if it exists."""
    paths = {path.name: path for path in model_files(folder)}
    return [
        path
        for name, path in paths.items()
        if not name.endswith(".decomposed.onnx")
        or name.replace(".decomposed.onnx", ".onnx") not in paths
    ]


def model_files(folder: Path) -> list[Path]:
    """Return all models in ``folder``, in both forms."""
    return sorted(folder.glob("*.onnx"))


def read_artifact(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        ArtifactInvalid: The file is missing, is a broken link, or is not a regular file.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArtifactInvalid(f"{path}: expected a regular file")
            return file.read()
    except IsADirectoryError as error:
        raise ArtifactInvalid(f"{path}: expected a regular file, got a folder") from error
    except OSError as error:
        raise ArtifactInvalid(f"{path} cannot be read: {error.strerror}") from error


def model_name(stem: str, kind: str, dtype: DType) -> str:
    """Return the name of a graph as a model: ``sinc``, ``sinc.grad``, ``sinc.grad.float64``."""
    suffixes = [kind if kind != GRAPHS[0] else "", dtype if dtype != DEFAULT_DTYPE else ""]
    return ".".join([stem, *filter(None, suffixes)])


def load(path: Path, engine: Engine) -> tuple[Document, ActivationModel]:
    """Load one artifact, and check that it computes its own example.

    Raises:
        ArtifactInvalid: It does not load, has no record in its metadata, or its results are wrong.
        KernelsUnavailable: The kernels are required, and one for its node is missing.
    """
    content = read_artifact(path)
    ours, nodes = _operators(path, content)
    session, metadata = engine.open(path, content, ours)
    document = _document(path, metadata)
    document["certificate"] = metadata.get(CERTIFICATE_KEY)
    stem, kind, dtype = document["operator"]["stem"], document["graph"], document["dtype"]
    model = ActivationModel(
        path=path,
        kind=kind,
        dtype=dtype,
        name=model_name(stem, kind, dtype),
        inputs=_ports(document["inputs"], dtype),
        outputs=_ports(document["outputs"], dtype),
        scalars=document["operator"]["reals"],
        session=Session(
            session,
            lambda: engine.open(path, content, ours)[0],
            dtype,
            in_one_pass=nodes == 1 and bool(ours) and ours <= engine.kernels.operators,
        ),
        implementation=engine.kernels.serving(ours),
    )
    _check_example(model, document)
    model.session.unload()
    return document, model


def _ports(names: Sequence[str], dtype: DType) -> tuple[Port, ...]:
    datatype = BY_NUMPY[NUMPY[dtype]].name
    return tuple(Port(name, datatype, (ANY,)) for name in names)


def _operators(path: Path, content: bytes) -> tuple[frozenset[str], int]:
    try:
        return operators(content)
    except MalformedError as error:
        raise ArtifactInvalid(f"{path} is not an ONNX file: {error}") from error


def _document(path: Path, metadata: Mapping[str, str]) -> Document:
    try:
        document: Document = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError) as error:
        msg = f"{path}: no record in its metadata ({METADATA_KEY}): not made by `gatewave export`"
        raise ArtifactInvalid(msg) from error
    if document.get("schema") != SCHEMA:
        msg = f"{path}: its record has schema {document.get('schema')}, not {SCHEMA}: export again"
        raise ArtifactInvalid(msg)
    return document


def _check_example(model: ActivationModel, document: Document) -> None:
    example = document["example"]
    tensors = {
        name: narrowed(np.array(values), model.dtype)[0]
        for name, values in example["inputs"].items()
    }
    results = model.run(tensors, model.output_names, {})
    for name, exact in example["outputs"].items():
        got, want = results[name].astype(np.float64), np.array(exact)
        # The exact result is stored as float64, and is itself off by half a unit in the last place.
        allowed = np.array(example["allowed"][name]) + np.spacing(np.abs(want))
        # A comparison with NaN is false, so a NaN that the example does not have is refused.
        if not np.all(np.abs(got - want) <= allowed):
            msg = f"{model.path}: {name} of its example is {got.tolist()}, not {exact}"
            raise ArtifactInvalid(msg)
