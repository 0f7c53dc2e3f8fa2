"""Reading of untrusted model files, and atomic writing of models."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from gatewave.graphs.analysis import contents, protos, unsupported
from gatewave.graphs.analysis.protos import Body
from gatewave.graphs.errors import ModelError
from gatewave.graphs.files import storage, structure, tensors
from gatewave.graphs.files.external import DataFolder

MAX_BYTES = 2**31 - 1
"""Protobuf's limit for a message."""

MAX_SAID = 300
"""Characters that are kept at each end of a long message: it may quote a name of any length."""

OTHER_FORMATS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: git lfs pull"),
    (b"PK\x03\x04", "is a ZIP archive, as Torch writes: export it to ONNX first"),
    (b"<", "is text, a web page perhaps, and no ONNX model"),
)


def read(path: Path) -> ir.Model:
    """Read and check the model in the file ``path``. External tensors are mapped on their use.

    Models that some runtime may run are accepted: custom operators, nodes without names or out of
    order, functions, sparse initializers, opsets of the future. Parts that `onnx_ir` cannot hold
    are kept by `unsupported`, and `write` restores them.

    Files outside the folder of ``path`` are not opened. Memory and time grow with the size of the
    files, not with the sizes that they declare.

    Raises:
        ModelError: There is no such file; it is no ONNX model, cut short, or of a later IR version;
            its graphs are not sound (see `structure`); a tensor has not the bytes that it declares
            (see `tensors`); or its external data are not where they may be (see `external`).
    """
    try:
        return _model(_parsed(_content(path)), DataFolder(Path(os.path.realpath(path.parent))))
    except ModelError as error:
        raise ModelError(f"{path}: {_printable(str(error))}") from error


def write(
    model: ir.Model,
    path: Path,
    *,
    source: Path | None,
    check: Callable[[Path], object] = lambda _: None,
) -> None:
    """Write ``model`` to the file ``path``, in one step.

    Tensors are external if they were in the model that was read, or if the whole would be over
    protobuf's limit of 2 GiB; they are copied piece by piece. They go into one file beside
    ``path``, whose name ends in a digest of what it holds. The same model gives the same bytes and
    the same names.

    At every moment, also if the process is killed:

    - The old file or the new one is at ``path``, complete and on the disk.
    - The data file that it names is complete. It is placed before the model, and its name depends
      on its content. The data file of a replaced model stays, since other models may name it.
    - If this raises, ``path`` and the folder are as they were.

    A symbolic link at ``path`` is replaced, and not what it points to.

    Args:
        model: The model, which is not changed.
        path: Target file. A missing folder is created.
        source: The file that the model was read from. Neither it nor its data may be overwritten.
        check: Called with the new file, complete with its data but in a folder of its own, before
            it takes its place. What it raises stops the writing.

    Raises:
        ModelError: ``path`` is the source or one of its data files, by whatever name, or a folder;
            or the model does not fit into 2 GiB even without its tensors.
        NotWrittenError: The file system refuses.
    """
    storage.write(model, path, source=source, check=check)


def _content(path: Path) -> bytes:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ModelError("is a folder, not an ONNX model")
        # A pipe may never end, and a device may have no end.
        if not stat.S_ISREG(found.st_mode):
            raise ModelError("is not a regular file")
        # Checked before reading: a sparse file of a terabyte takes no room on the disk.
        if found.st_size > MAX_BYTES:
            raise ModelError(
                f"has {found.st_size:,} bytes, and protobuf holds {MAX_BYTES:,}: "
                "a larger model keeps its tensors as external data"
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    if not content:
        raise ModelError("is empty")
    return content


def _parsed(content: bytes) -> onnx.ModelProto:
    # Protobuf would only say that it cannot parse these.
    for start, what in OTHER_FORMATS:
        if content.startswith(start):
            raise ModelError(what)
    try:
        return onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(
            f"is no ONNX model, is cut short, or nests deeper than protobuf reads ({error})"
        ) from error


def _model(proto: onnx.ModelProto, folder: DataFolder) -> ir.Model:
    # All checks come before `onnx_ir`, which allocates what a tensor declares.
    _check_text(proto)
    ordered = structure.check(proto)
    _check_tensors(proto, folder)
    _name_domain_alike(proto)
    unsupported.encode_unsupported(proto)
    model = _deserialized(proto)
    # A graph in order keeps its order, so that a rewrite changes only the nodes that it names.
    if not ordered:
        _sort(model)
    for tensor in contents.tensors_of(model):
        if isinstance(tensor, ir.ExternalTensor):
            tensor.base_dir = folder.path
    model.meta[storage.DATA_FILES] = tuple(folder.sizes)
    return model


def _check_text(proto: onnx.ModelProto) -> None:
    for field, text in protos.strings(proto):
        # ONNX uses proto2, for which protobuf returns the bytes of a string that is no UTF-8.
        if isinstance(text, bytes):
            raise ModelError(f"the {field} {text[:40]!r} is not UTF-8 text")


def _name_domain_alike(proto: onnx.ModelProto) -> None:
    """Use the empty name of ONNX's domain in imports, since `onnx_ir` looks up that one only."""
    for imports in (proto.opset_import, *(f.opset_import for f in proto.functions)):
        for entry in imports:
            entry.domain = protos.domain(entry.domain)


def _deserialized(proto: onnx.ModelProto) -> ir.Model:
    try:
        with warnings.catch_warnings(action="ignore"):  # about keys of external data
            return unsupported.deserialize(proto)
    except ir.serde.SerdeError as error:
        raise ModelError(f"cannot be understood: {_root(error)}") from error


def _sort(model: ir.Model) -> None:
    model.graph.sort()
    for function in model.functions.values():
        function.sort()


def _check_tensors(proto: onnx.ModelProto, folder: DataFolder) -> None:
    for body in protos.bodies(proto):
        for what, tensor in protos.tensors(body):
            tensors.check(tensor, what)
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                folder.check(tensor, what)
        for what, sparse in protos.sparse_tensors(body):
            tensors.check_sparse(sparse, what)
    # Training information is written back as it came, so its tensors must be inside the message.
    for training in proto.training_info:
        for graph in (training.initialization, training.algorithm):
            for body in protos.nested(graph):
                _check_carried(body)


def _check_carried(body: Body) -> None:
    for what, tensor in protos.tensors(body):
        tensors.check(tensor, what)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{what}: external data are not supported in training information")


def _root(error: BaseException) -> BaseException:
    """Return the first cause: `onnx_ir` wraps an error once for each enclosing message."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _printable(text: str) -> str:
    """Return ``text`` without control characters, and shortened.

    Names come from the file and go to a terminal, which escape sequences could control.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(shown) <= 2 * MAX_SAID:
        return shown
    return f"{shown[:MAX_SAID]} … {shown[-MAX_SAID:]}"
