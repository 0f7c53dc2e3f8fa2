"""Reads and writes the models that the commands work on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gatewave.errors import UsageError, needing

if TYPE_CHECKING:
    import onnx_ir as ir


def load(path: Path) -> ir.Model:
    """The model in the file ``path``.

    Raises:
        UsageError: There is no such file, or it holds no model.
        ExtraMissing: onnx is not installed.
    """
    with needing("export"):
        import onnx_ir as ir
    try:
        return ir.load(path)
    except Exception as error:
        raise UsageError(f"{path}: no ONNX model can be read from it: {error}") from error


def save(model: ir.Model, path: Path, source: Path) -> None:
    """Write ``model`` to ``path``, in one step, and never onto ``source``.

    Raises:
        UsageError: ``path`` is ``source``.
    """
    import onnx_ir as ir

    if path.exists() and path.samefile(source):
        raise UsageError(f"--output: {path} is the model itself, which is never overwritten")
    beside = path.with_name(f".{path.name}.part")
    try:
        ir.save(model, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
