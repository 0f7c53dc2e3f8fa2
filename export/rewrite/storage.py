"""How `files.write` puts a model on the disk: tensors first, then the model that names them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir
from google.protobuf.message import EncodeError

from export.errors import ModelError, NotWrittenError
from export.rewrite import standins
from export.rewrite.scopes import scopes
from export.rewrite.standins import SparseInitializer

DATA_FILES = "external data files"
"""Where a model's ``meta`` holds the paths of the data files that it was read with."""

MOST_INLINE = 2**31 - 2**26
"""Bytes of tensors that a message may hold, with room for all else below protobuf's 2 GiB."""

LEAST_EXTERNAL = 1024
"""A smaller tensor stays in the message: its entry would take as much."""

ALIGNMENT = 4096
"""Where tensors start: a page, so that runtimes can map them."""

Put = Callable[[ir.TensorProtocol], None]


def tensors_of(model: ir.Model) -> Iterator[tuple[Put, ir.TensorProtocol]]:
    """Every tensor of ``model``, wherever it is, each with what puts another in its place."""
    for scope in scopes(model):
        holders: list[MutableMapping[str, ir.Attr]] = [node.attributes for node in scope.graph]
        if isinstance(scope.graph, ir.Function):
            holders.append(scope.graph.attributes)
        else:
            for value in scope.graph.initializers.values():
                if value.const_value is not None:
                    yield functools.partial(setattr, value, "const_value"), value.const_value
        for attributes in holders:
            yield from _in_attributes(attributes)


def _in_attributes(
    attributes: MutableMapping[str, ir.Attr],
) -> Iterator[tuple[Put, ir.TensorProtocol]]:
    for attribute in list(attributes.values()):
        if attribute.is_ref() or attribute.value is None:
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            yield functools.partial(_put, attributes, attribute.name), attribute.as_tensor()
        elif attribute.type == ir.AttributeType.TENSORS:
            for index, tensor in enumerate(attribute.as_tensors()):
                yield functools.partial(_put_in, attributes, attribute.name, index), tensor


def _put(attributes: MutableMapping[str, ir.Attr], name: str, tensor: ir.TensorProtocol) -> None:
    attributes[name] = ir.AttrTensor(name, tensor, doc_string=attributes[name].doc_string)


def _put_in(
    attributes: MutableMapping[str, ir.Attr], name: str, index: int, tensor: ir.TensorProtocol
) -> None:
    old = attributes[name]
    new = [*old.as_tensors()]
    new[index] = tensor
    attributes[name] = ir.AttrTensors(name, new, doc_string=old.doc_string)


def write(
    model: ir.Model, path: Path, *, source: Path | None, check: Callable[[Path], object]
) -> None:
    """See `files.write`."""
    kept = _kept(model, source)
    _refuse(path, kept)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as beside:
            staged = Path(beside) / path.name
            data = _stage(model, staged)
            if data is not None:
                _refuse(path.parent / data.name, kept)
            check(staged)
            _place(staged, data, path)
    except OSError as error:
        raise NotWrittenError(f"{path}: cannot be written: {error.strerror or error}") from error


def _kept(model: ir.Model, source: Path | None) -> list[Path]:
    """The files that must stay as they are: the model that was read, and its data."""
    files = [] if source is None else [source]
    files += model.meta.get(DATA_FILES, ())
    for _, tensor in tensors_of(model):
        if isinstance(tensor, ir.ExternalTensor):
            files.append(Path(tensor.path))
    return list(dict.fromkeys(files))


def _refuse(path: Path, kept: Iterable[Path]) -> None:
    for file in kept:
        with contextlib.suppress(OSError):  # what is not there is not the same
            if path.samefile(file):
                raise ModelError(
                    f"{path}: is the model that was read, or holds its data: "
                    "choose another file to write"
                )


def _stage(model: ir.Model, staged: Path) -> Path | None:
    """Write ``model`` to ``staged``, and give the file of its data beside it, if it has one."""
    outside = _outside(model)
    with contextlib.ExitStack() as undo:
        data = _store(outside, staged, undo) if outside else None
        message = standins.serialized(model)
    try:
        content = message.SerializeToString(deterministic=True)
    except EncodeError as error:
        raise ModelError("does not fit into the 2 GiB that protobuf holds") from error
    with staged.open("xb") as file:
        file.write(content)
        _flush(file)
    return data


def _outside(model: ir.Model) -> list[tuple[Put, ir.TensorProtocol]]:
    """The tensors that are to be external data."""
    found = list(tensors_of(model))
    outside = [item for item in found if isinstance(item[1], ir.ExternalTensor)]
    movable = [item for item in found if _is_movable(item[1])]
    if sum(tensor.nbytes for _, tensor in movable) > MOST_INLINE:
        outside += [item for item in movable if item[1].nbytes >= LEAST_EXTERNAL]
    return outside


def _is_movable(tensor: ir.TensorProtocol) -> bool:
    """Whether it is in memory, and has bytes: strings have none, and sparse ones too many."""
    without = (ir.ExternalTensor, ir.StringTensor, SparseInitializer)
    return not isinstance(tensor, without) and tensor.dtype != ir.DataType.STRING


def _store(
    outside: Iterable[tuple[Put, ir.TensorProtocol]], staged: Path, undo: contextlib.ExitStack
) -> Path:
    """Write the tensors ``outside`` to a file beside ``staged``, and let the model name it.

    ``undo`` gives the model its own tensors back.
    """
    outside = list(outside)
    places: dict[object, tuple[int, int]] = {}
    written = staged.with_name("data")
    with written.open("xb") as file:
        target = _Target(file)
        for _, tensor in outside:
            if _key(tensor) not in places:
                places[_key(tensor)] = target.add(tensor)
        target.finish()
    data = staged.with_name(f"{staged.name}.{target.digest.hexdigest()[:16]}.data")
    written.rename(data)
    for put, tensor in outside:
        undo.callback(put, tensor)
        offset, length = places[_key(tensor)]
        put(
            ir.ExternalTensor(
                data.name,
                offset,
                length,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=tensor.name or "",
                doc_string=tensor.doc_string,
                metadata_props=dict(tensor.metadata_props),
            )
        )
    return data


def _key(tensor: ir.TensorProtocol) -> object:
    """What tensors that share their bytes have in common."""
    if isinstance(tensor, ir.ExternalTensor):
        return tensor.path, tensor.offset or 0, tensor.nbytes
    return id(tensor)


@dataclass
class _Target:
    """A data file in the making, to which tensors write themselves piece by piece."""

    file: BinaryIO
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    position: int = 0

    def add(self, tensor: ir.TensorProtocol) -> tuple[int, int]:
        """Write ``tensor``, and give its offset and length."""
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
        if np.frombuffer(piece, np.uint8).any():
            self.file.write(piece)
        else:  # zeros take no room on the disk
            self.file.seek(self.position)

    def finish(self) -> None:
        self.file.truncate(self.position)
        _flush(self.file)


def _place(staged: Path, data: Path | None, path: Path) -> None:
    """The data first: a model on the disk never names a file that is not."""
    if data is None:
        staged.replace(path)
    else:
        target = path.with_name(data.name)
        new = not target.exists()
        data.replace(target)
        _flush_folder(path.parent)
        try:
            staged.replace(path)
        except OSError:
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
