"""Calls of a module: check, export, and comparison with the exported model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from gatewave.export.errors import ArgumentsError
from gatewave.export.torch import verification
from gatewave.export.torch.binding import Bound, bind
from gatewave.export.torch.eager import Eager
from gatewave.export.torch.recorded_ops import Translations
from gatewave.export.torch.state import evaluating, preserved
from gatewave.export.torch.trace import Captured, captured
from gatewave.models import Operator

HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True)
class Call:
    """A module and the arguments that it is called with.

    Attributes:
        source: The module or program for Torch to export.
        eager: The same, as Torch computes it.
        bound: The example arguments.
    """

    source: nn.Module | ExportedProgram
    eager: Eager
    bound: Bound

    def exported(
        self, operators: Iterable[Operator], *, opset: int, translations: Translations
    ) -> Captured:
        """Export the module at ``opset``.

        Raises:
            ArgumentsError: Torch cannot write that opset, or the module's outputs.
            torch.onnx.OnnxExporterError: Torch cannot export the module.
        """
        newest = onnx.defs.onnx_opset_version()
        if not 1 <= opset <= newest:
            raise ArgumentsError(f"opset: expected a number from 1 to {newest}, got {opset!r}")
        try:
            program = captured(
                self.source, self.bound, operators, opset=opset, translations=translations
            )
        except torch.onnx.OnnxExporterError as error:
            self._check_outputs(error)
            raise
        except ValueError as error:  # of the converter between opsets
            raise ArgumentsError(f"opset: Torch cannot write opset {opset}: {error}") from error
        written = program.model.opset_imports[""]
        if written != opset:
            raise ArgumentsError(
                f"opset: Torch cannot bring this graph from opset {written} to {opset}: expected "
                f"{written} or more, or lower the model afterwards (gatewave lower)"
            )
        return program

    def verify(self, capture: Captured, operators: Iterable[Operator]) -> None:
        """Compare the exported model with the module.

        Raises:
            VerificationError: The results differ.
            NotRunnableError: No runtime runs the model.
            ArgumentsError: The module cannot be run on the examples.
        """
        verification.verify(capture, self.eager, self.bound, operators)

    def _check_outputs(self, error: Exception) -> None:
        """Name an output that ONNX cannot represent, if Torch fails because of it."""
        try:
            outputs = self.eager(self.bound.tensors)
        except Exception:  # noqa: BLE001 - the module's own failure; Torch's error stands
            return
        for path, leaf in pytree.tree_leaves_with_path(outputs):
            if leaf is not None and not isinstance(leaf, Tensor):
                raise ArgumentsError(
                    f"the module returns {type(leaf).__name__} {leaf!r:.60} "
                    f"(output{pytree.keystr(path)}): expected tensors, or lists, tuples and "
                    f"dictionaries of tensors, since a graph has tensors for outputs"
                ) from error


@contextlib.contextmanager
def opened(
    module: nn.Module | ExportedProgram, arguments: Mapping[str, Any], dynamic_shapes: Any
) -> Iterator[Call]:
    """While open, ``module`` is in evaluation mode; afterwards it is as it was.

    Raises:
        ArgumentsError: The arguments do not fit the module, or it cannot be exported.
    """
    source = _exportable(module)
    if isinstance(source, ExportedProgram) and dynamic_shapes is not None:
        raise ArgumentsError(
            "dynamic_shapes: the shapes of a program were decided when torch.export.export made it"
        )
    bound = bind(source, arguments, dynamic_shapes)
    callee = source.module() if isinstance(source, ExportedProgram) else source
    with evaluating(callee), preserved(callee, bound.tensors) as state:
        yield Call(source, Eager(callee, bound, state), bound)


def _exportable(module: Any) -> nn.Module | ExportedProgram:
    if isinstance(module, ExportedProgram):
        return module
    if not isinstance(module, nn.Module):
        raise ArgumentsError(
            f"module: expected an nn.Module or a torch.export.ExportedProgram, got "
            f"{type(module).__name__}; a function can be called by the forward of a module"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ArgumentsError(
            f"module: {type(module).__name__} is TorchScript, which Torch's exporter does not "
            f"take: expected the module that it was made from"
        )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise ArgumentsError(
                f"module: {name} is not initialized yet, as its module is lazy: "
                f"call the module once before the export"
            )
    # Of a torch.compile'd module, the original: the compiled one computes the same.
    original = getattr(module, "_orig_mod", None)
    if isinstance(original, nn.Module) and not any(vars(module).get(name) for name in HOOKS):
        return _exportable(original)
    return module
