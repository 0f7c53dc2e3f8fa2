"""Storage of a model for `files.write`: tensors first, then the model that refers to them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir
from google.protobuf.message import EncodeError

from gatewave.graphs.analysis import unsupported
from gatewave.graphs.analysis.contents import swapped, tensors_of
from gatewave.graphs.analysis.unsupported import SparseInitializer
from gatewave.graphs.errors import ModelError, NotWrittenError
from gatewave.graphs.files import scratch

DATA_FILES = "external data files"
"""Key in a model's ``meta`` of the paths of the data files that it was read with."""

MAX_INLINE = 2**31 - 2**26
"""Bytes of tensors in one message; the rest of protobuf's 2 GiB is for everything besides."""

LEAST_EXTERNAL = 1024
"""A smaller tensor stays in the message: its entry would take as much."""

ALIGNMENT = 4096
"""Alignment of tensors in bytes: a page, so that runtimes can map them."""


def write(
    model: ir.Model, path: Path, *, source: Path | None, check: Callable[[Path], object]
) -> None:
    """See `files.write`."""
    if path.is_dir():
        raise ModelError(f"{path}: is a folder: name the file to write")
    kept = _kept(model, source)
    _refuse(path, kept)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.folder_in(path.parent) as beside:
            staged = beside / path.name
            data = _stage(model, staged)
            # The name of the data file depends on its content, so it is known only now.
            if data is not None:
                _refuse(path.parent / data.name, kept)
            check(staged)
            _place(staged, data, path)
    except OSError as error:
        raise NotWrittenError(f"{path}: cannot be written: {error.strerror or error}") from error


def _kept(model: ir.Model, source: Path | None) -> list[Path]:
    """Return the files that must not be overwritten: the model that was read, and its data."""
    return [*([] if source is None else [source]), *data_files(model)]


def data_files(model: ir.Model) -> list[Path]:
    """Return the files with the external data of a model that was read, each once."""
    held = [t.path for t in tensors_of(model) if isinstance(t, ir.ExternalTensor)]
    return list(dict.fromkeys(map(Path, (*model.meta.get(DATA_FILES, ()), *held))))


def _refuse(path: Path, kept: Iterable[Path]) -> None:
    for file in kept:
        with contextlib.suppress(OSError):  # what is not there is not the same
            if path.samefile(file):
                raise ModelError(
                    f"{path}: is the model that was read, or holds its data: "
                    "choose another file to write"
                )


def _stage(model: ir.Model, staged: Path) -> Path | None:
    """Write ``model`` to ``staged``, and return the data file beside it, if there is one."""
    stored = _store(_outside(model), staged)
    with swapped(model, lambda tensor: stored.tensors.get(id(tensor)) if stored else None):
        message = unsupported.serialize(model)
    try:
        content = message.SerializeToString(deterministic=True)
    except EncodeError as error:
        raise ModelError(
            f"{staged.name}: does not fit into the 2 GiB that protobuf holds"
        ) from error
    # "x" fails on an existing file: the folder is new, so nobody else may have put one there.
    with staged.open("xb") as file:
        file.write(content)
        _flush(file)
    return stored.file if stored else None


def _outside(model: ir.Model) -> list[ir.TensorProtocol]:
    """Return the tensors that become external data."""
    found = list(tensors_of(model))
    outside: list[ir.TensorProtocol] = [
        tensor for tensor in found if isinstance(tensor, ir.ExternalTensor)
    ]
    movable = [tensor for tensor in found if _is_movable(tensor)]
    if sum(tensor.nbytes for tensor in movable) > MAX_INLINE:
        outside += [tensor for tensor in movable if tensor.nbytes >= LEAST_EXTERNAL]
    return outside


def _is_movable(tensor: ir.TensorProtocol) -> bool:
    """Return true if the tensor is in memory and has bytes; strings and sparse tensors do not."""
    without = (ir.ExternalTensor, ir.StringTensor, SparseInitializer)
    return not isinstance(tensor, without) and tensor.dtype != ir.DataType.STRING


@dataclass(frozen=True)
class _Stored:
    """A data file, and the tensors in it by the ids of those that they are copies of."""

    file: Path
    tensors: Mapping[int, ir.ExternalTensor]


def _store(outside: Sequence[ir.TensorProtocol], staged: Path) -> _Stored | None:
    """Write the tensors ``outside`` to a file beside ``staged``; bytes that they share, once."""
    if not outside:
        return None
    originals = {_key(tensor): tensor for tensor in outside}
    unnamed = staged.with_name("data")
    with unnamed.open("xb") as file:
        target = _DataFile(file)
        places = {key: target.add(tensor) for key, tensor in originals.items()}
        target.finish()
    # The digest in the name keeps the data of older models: another content has another name.
    data = staged.with_name(f"{staged.name}.{target.digest.hexdigest()[:16]}.data")
    unnamed.rename(data)
    return _Stored(data, {id(t): _at(data.name, *places[_key(t)], like=t) for t in outside})


def _at(location: str, offset: int, length: int, *, like: ir.TensorProtocol) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        location,
        offset,
        length,
        like.dtype,
        shape=ir.Shape(like.shape.numpy()),
        name=like.name or "",
        doc_string=like.doc_string,
        metadata_props=dict(like.metadata_props),
    )


def _key(tensor: ir.TensorProtocol) -> object:
    """Return a key that is equal for tensors that share their bytes."""
    if isinstance(tensor, ir.ExternalTensor):
        return tensor.path, tensor.offset or 0, tensor.nbytes
    return id(tensor)


@dataclass
class _DataFile:
    """A data file in the making, to which tensors write themselves piece by piece."""

    file: BinaryIO
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    position: int = 0

    def add(self, tensor: ir.TensorProtocol) -> tuple[int, int]:
        """Write ``tensor``, and return its offset and length."""
        self.write(bytes(-self.position % ALIGNMENT))
        offset = self.position
        if isinstance(tensor, ir.ExternalTensor):
            tensor.tofile(self)
        else:
            self.write(tensor.tobytes())
        return offset, self.position - offset

    def write(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.position += len(piece)
        if piece and np.frombuffer(piece, np.uint8).any():
            self.file.write(piece)
        else:  # a hole in the file: zeros, such as the padding, take no room on the disk
            self.file.seek(self.position)

    def finish(self) -> None:
        self.file.truncate(self.position)
        _flush(self.file)


def _place(staged: Path, data: Path | None, path: Path) -> None:
    """Move the data, then the model, so that a model on the disk never names a missing file."""
    if data is None:
        staged.replace(path)
    else:
        target = path.with_name(data.name)
        new = not target.exists()
        data.replace(target)
        # fsync(2): only a flush of the folder brings the new name of a file to the disk.
        _flush_folder(path.parent)
        try:
            staged.replace(path)
        except BaseException:
            if new:
                target.unlink()
            raise
    _flush_folder(path.parent)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
