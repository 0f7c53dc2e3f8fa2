"""Search for the first node of an exported model whose value differs from Torch's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from gatewave.export.torch.arrays import array_of
from gatewave.export.torch.cases import ModuleInputs
from gatewave.export.torch.trace import Captured
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.runners import Runner
from gatewave.graphs.verify.tensor_difference import between
from gatewave.models import Operator

MAX_BYTES = 2**28
"""Limit on the bytes of all inner values; larger networks are not searched."""

OURS = torch.ops.onnx_symbolic._symbolic_multi_out.default  # noqa: SLF001 - what symbolic() draws


def first_difference(
    capture: Captured,
    load: Callable[[Sequence[str]], Runner],
    case: ModuleInputs,
    inputs: Mapping[str, Array],
    operators: Iterable[Operator],
) -> str:
    """Return a sentence on the first node that differs, or on why it is not known.

    Torch's program is run on the same inputs, operator by operator. The values of both are known by
    the names that Torch gives to them.

    Args:
        capture: The model, and Torch's program.
        load: Loads the model so that it also returns the values of these names.
        case: The case in which the outputs differ.
        inputs: The same, as the model takes them.
        operators: The operators behind nodes of our domain.
    """
    exported = capture.program
    values = {value.name or "": value for node in capture.model.graph for value in node.outputs}
    named = {node.name for node in exported.graph.nodes if node.op == "call_function"}
    names = [name for name in values if name in named]
    try:
        wanted = _Recorder(exported, names, operators).values(case.tensors)
        if sum(array.nbytes for array in wanted.values()) > MAX_BYTES:
            return ""
        outputs = {value.name for value in capture.model.graph.outputs}
        extra = [name for name in wanted if name not in outputs]
        with load(extra) as runner:
            got = runner.run(inputs)
    except (Refused, RuntimeError) as error:
        return f"; the first node that differs is not known: {error}"
    tolerance = Allowance(sliced=False)
    for name in (name for name in names if name in wanted and name in got):
        if between(wanted[name], got[name], tolerance, lenient=case.extreme).used > 1:
            return f"; the first node that differs is {_described(values[name], exported)}"
    return "; every node computes what torch.export has captured, which differs from the module"


def _described(value: ir.Value, exported: ExportedProgram) -> str:
    """Describe the node that makes ``value``: its operator in Torch, and the calling line."""
    node = value.producer()
    found = next(one for one in exported.graph.nodes if one.name == value.name)
    lines = re.findall(r'File "(.*)", line (\d+), in (\w+)', found.meta.get("stack_trace") or "")
    where = f", {lines[-1][0]}:{lines[-1][1]} in {lines[-1][2]}" if lines else ""
    kind = node.op_type if node is not None else "value"
    label = node.name if node is not None else value.name
    return f"{label} ({kind}, of {found.target}{where})"


class _Recorder(fx.Interpreter):
    """Runs a program that Torch has exported, and records values by name."""

    def __init__(
        self, exported: ExportedProgram, names: Iterable[str], operators: Iterable[Operator]
    ) -> None:
        super().__init__(exported.graph_module)
        self._exported = exported
        self._names = {*names}
        self._operators = {operator.op_type: operator for operator in operators}
        self._values: dict[str, Array] = {}

    def values(self, tensors: Iterable[Tensor]) -> dict[str, Array]:
        """The recorded values, given the user's inputs in order."""
        given = iter(tensors)
        program = self._exported
        stored = {**program.constants, **program.state_dict}
        arguments: list[Any] = []
        for spec in program.graph_signature.input_specs:
            if spec.kind != InputKind.USER_INPUT:
                arguments.append(stored[spec.target])
            elif hasattr(spec.arg, "value"):  # a constant
                arguments.append(spec.arg.value)
            else:
                arguments.append(next(given).detach().clone())
        with torch.no_grad():
            self.run(*arguments)
        return self._values

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and keep its value if it is asked for."""
        result = super().run_node(n)
        if n.name in self._names and isinstance(result, Tensor):
            self._values[n.name] = array_of(result)
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function; for a node of our domain, a placeholder, call the activation."""
        if target is not OURS:
            return super().call_function(target, args, kwargs)
        operator = self._operators[args[1]]
        reals = dict(zip(kwargs["attr_keys"], kwargs["attr_floats"], strict=True))
        return [operator.build(**reals)(*args[0])]
