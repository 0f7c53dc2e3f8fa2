"""Torch modules as ONNX graphs, in which each activation of ours is one node of our domain."""

from __future__ import annotations

import contextlib
import inspect
import logging
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import _AttrProxy
from torch.onnx import ONNXProgram

from gatewave.export.torch.binding import Bound, bind
from gatewave.export.torch.recorded_ops import Translations
from gatewave.export.torch.simplification import simplify
from gatewave.export.torch.state import evaluating, preserved
from gatewave.graphs.ops import signature
from gatewave.graphs.rewrite.editing.names import free_name
from gatewave.models import DTYPES, Operator
from gatewave.models.torch.modules import plain_forward
from gatewave.models.torch.ops import KEEP, common_dtype

DTYPES_OF_TORCH = frozenset(getattr(torch, dtype) for dtype in DTYPES)

OPSET = 18
"""Opset of Torch's exporter; the artifacts' own opset is lower and set when they are drawn."""


def trace(
    module: nn.Module,
    arguments: Mapping[str, Tensor],
    operators: Iterable[Operator],
    *,
    dynamic_shapes: Any = None,
    opset: int = OPSET,
    translations: Translations | None = None,
) -> ir.Model:
    """Export ``module`` through ``torch.onnx.export``; in it, each of ``operators`` is one node.

    Args:
        module: Any module; those that an operator matches may be anywhere inside. It is exported
            as it evaluates, not as it trains, and left as it was.
        arguments: Example tensors, by the names that the graph's inputs are to have.
        operators: Operators to keep whole. The rest becomes standard operators that Torch chooses.
        dynamic_shapes: As `gatewave.export.torch.to_onnx.to_onnx` takes them.
        opset: Version of the standard operators.
        translations: Translations of Torch functions that replace Torch's own.

    Raises:
        torch.onnx.OnnxExporterError: Torch cannot export the module.
        ArgumentsError: The arguments do not fit the module.
    """
    bound = bind(module, arguments, dynamic_shapes)
    with evaluating(module), preserved(module):
        return captured(module, bound, operators, opset=opset, translations=translations).model


@dataclass(frozen=True)
class Captured:
    """A model, and the program of Torch's that it was translated from, after decomposition."""

    model: ir.Model
    program: ExportedProgram


def captured(
    module: nn.Module | ExportedProgram,
    bound: Bound,
    operators: Iterable[Operator],
    *,
    opset: int = OPSET,
    translations: Translations | None = None,
) -> Captured:
    """Export as `trace` does, given the arguments as the module takes them; keep the program.

    Raises:
        torch.onnx.OnnxExporterError: Torch cannot export the module.
    """
    keeper = _Keeper(operators)
    # A dictionary in the last place would be taken for the keyword arguments.
    is_dictionary = not bound.kwargs and bool(bound.args) and isinstance(bound.args[-1], dict)
    args = (*bound.args, {}) if is_dictionary else bound.args

    def export() -> ONNXProgram | None:
        return torch.onnx.export(
            module,
            args,
            kwargs=bound.kwargs,
            dynamo=True,
            opset_version=opset,
            custom_translation_table=translations,
            input_names=list(bound.names),
            dynamic_shapes=bound.dynamic_shapes,
            verbose=False,
            optimize=False,
        )

    with _quiet():
        try:
            with keeper.keeping():
                program = export()
        except torch.onnx.OnnxExporterError:
            # A node of ours has no derivative: a forward that asks for one is traced without.
            if not keeper.kept:
                raise
            program = export()
    # The exporter's types allow that there is none; with dynamo=True it always is.
    if program is None or program.exported_program is None:  # pragma: no cover
        raise RuntimeError("torch.onnx.export gave no program")
    with _quiet():
        simplify(program)
    _name_inputs(program.model.graph, bound)
    _sort_inputs(program.model.graph, bound)
    return Captured(program.model, program.exported_program)


def _name_inputs(graph: ir.Graph, bound: Bound) -> None:
    """Give inputs that are outputs as well their names back, which Torch gives to the outputs."""
    values = {value.name: value for node in graph.all_nodes() for value in node.outputs}
    taken = {*values, *graph.initializers, *(value.name for value in graph.inputs)}
    for value in graph.inputs:
        name = (value.name or "").removesuffix("_orig")
        if name == value.name or name not in bound.names or name not in values:
            continue
        values[name].name = free_name(f"{name}_out", taken)
        taken.add(values[name].name)
        value.name = name


def _sort_inputs(graph: ir.Graph, bound: Bound) -> None:
    """Put the inputs into the order in which the caller gave them."""
    inputs = {value.name: value for value in graph.inputs}
    if inputs.keys() == {*bound.given}:
        graph.inputs.clear()
        graph.inputs.extend(inputs[name] for name in bound.given)


class _Keeper:
    """Replacement of the forwards of ``operators``, which draw nodes while a module is traced.

    A call becomes a node only if it is certain to be the plain activation: the forward that the
    record was made with is running, on an instance of the very class, with plain numbers for its
    parameters and tensors for its inputs. Otherwise Torch traces the computation of the forward.
    """

    def __init__(self, operators: Iterable[Operator]) -> None:
        self._operators: dict[Callable[..., Any], list[Operator]] = {}
        self.kept = 0
        for operator in operators:
            forward = plain_forward(operator.module_class)
            self._operators.setdefault(forward, []).append(operator)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """While open, calls in this thread are kept whole."""
        token = KEEP.set(self._keep)
        try:
            yield
        finally:
            KEEP.reset(token)

    def _keep(
        self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor | None:
        try:
            module, *tensors = inspect.signature(forward).bind(*args, **kwargs).args
        except TypeError:  # the forward itself says what is wrong
            return None
        if isinstance(module, _AttrProxy):  # stands in for a shared module while Torch traces
            module = module.get_base()  # type: ignore[attr-defined]  # of the class it mimics
        candidates = self._operators.get(forward, ())
        operator = next((one for one in candidates if one.matches(module)), None)
        if operator is None or not all(isinstance(tensor, Tensor) for tensor in tensors):
            return None
        reals = {name: getattr(module, name) for name in operator.reals}
        if not all(isinstance(real, numbers.Real) for real in reals.values()):
            return None
        # Under vmap, grad and their kin a node has no rule; Torch can trace what it stands for.
        if torch._C._functorch.peek_interpreter_stack() is not None:  # noqa: SLF001 - no other way
            return None
        dtype = common_dtype(*tensors)
        if dtype not in DTYPES_OF_TORCH:
            return None
        # The node takes equal shapes and dtypes; where they are equal, this draws nothing.
        same = torch.broadcast_tensors(*tensors)  # type: ignore[no-untyped-call]  # by Torch
        alike = [tensor.to(dtype) for tensor in same]
        self.kept += 1
        like = alike[0]
        return torch.onnx.ops.symbolic(
            f"{signature.DOMAIN}::{operator.op_type}",
            alike,
            {name: float(real) for name, real in reals.items()},
            dtype=like.dtype,
            shape=like.shape,
            version=signature.DOMAIN_VERSION,
        )


LOGGERS = {"torch.onnx": logging.ERROR, "onnxscript": logging.CRITICAL, "onnx_ir": logging.ERROR}
"""Loggers of the exporter, and the levels that are worth reading: failures are raised anyway."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Torch's messages about missing packages, deprecations and equal names."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            # They are restored: see `gatewave.export.torch.state`.
            warnings.filterwarnings("ignore", "The tensor attribute.* during export", UserWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
