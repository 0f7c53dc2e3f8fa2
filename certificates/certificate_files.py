"""Files of certificates and their pages, and the digests in the metadata of certified models."""

from __future__ import annotations

from pathlib import Path

import onnx

from gatewave.certificates.document import KEY, Certificate, model_digest
from gatewave.certificates.report import pages
from gatewave.graphs.errors import ModelError, NotWrittenError


def write(certificate: Certificate, folder: Path) -> Path:
    """Write the certificate and its pages into ``folder``; return the path of the certificate.

    Raises:
        NotWrittenError: The file system refuses it.
    """
    path = folder / f"{certificate.name}.certificate.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, certificate.to_json().encode())
        _replace(path.with_suffix(".md"), pages.markdown(certificate).encode())
        _replace(path.with_suffix(".html"), pages.html(certificate).encode())
    except OSError as error:
        raise NotWrittenError(f"{folder}: cannot be written: {error.strerror}") from error
    return path


def stamp(certificate: Certificate, folder: Path) -> None:
    """Write the digest of ``certificate`` into the metadata of its models in ``folder``.

    Raises:
        ModelError: One is missing or was not certified; then no file is changed.
        NotWrittenError: The file system refuses it.
    """
    stamped = {
        folder / name: _stamped(folder / name, digest, certificate)
        for name, digest in certificate.models.items()
    }
    try:
        for path, content in stamped.items():
            _replace(path, content)
    except OSError as error:
        raise NotWrittenError(f"{folder}: cannot be written: {error.strerror}") from error


def _stamped(path: Path, digest: str, certificate: Certificate) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if model_digest(content) != digest:
        raise ModelError(
            f"{path}: is not the model that was certified, but of another version of Gatewave or "
            "Torch, or another rank: run `gatewave export` again"
        )
    model = onnx.ModelProto.FromString(content)
    others = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    model.metadata_props.add(key=KEY, value=certificate.digest())
    stamped: bytes = model.SerializeToString(deterministic=True)
    return stamped


def _replace(path: Path, content: bytes) -> None:
    """Write the file atomically."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
