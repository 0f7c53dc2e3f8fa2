"""Comparison of an exported model with the module that it was exported from.

The model is written to a file, as its user would, and runs in its own process: in ONNX Runtime, or
in the reference evaluator if ONNX Runtime lacks a kernel for an element type. The module runs
eagerly on the same inputs. A difference counts if both implementations of ONNX show it (or the only
one that runs the model), and if the module itself changes by less when the last bits of its inputs
change.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from gatewave.export.errors import ArgumentsError
from gatewave.export.torch import blame, precision
from gatewave.export.torch.arrays import array_of
from gatewave.export.torch.binding import Bound
from gatewave.export.torch.cases import NAN, ModuleInputs, drawn
from gatewave.export.torch.eager import Eager
from gatewave.export.torch.precision import NOISE, ROUNDINGS
from gatewave.export.torch.trace import Captured
from gatewave.graphs.errors import NotRunnableError, VerificationError
from gatewave.graphs.evidence import Evidence
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.processes.messages import Array, Value
from gatewave.graphs.verify import random_outputs
from gatewave.graphs.verify.runners import WORDS, Runner, RunnerKind, Task, choose
from gatewave.graphs.verify.tensor_difference import Difference, between, is_float
from gatewave.models import Operator

logger = logging.getLogger(__name__)

SECONDS = 5.0
"""Seconds after which no further generated case is started."""

TIMEOUT = 900.0
"""Seconds that one run may take: a network of gigabytes takes minutes to load."""

LARGE = 2**24
"""Bytes of weights above which they are written to a separate file, which is not parsed."""

NUDGES = 8
"""Runs of the module with changed last bits of the inputs; ties may fall either way in each."""

FLOOR = 4
"""Error allowed in every number, in units in the last place of the output's largest number.

Forms that cancel, such as log(1 + e^-x) for large x, and ONNX Runtime's Sigmoid, which is 0 below
-18, have such errors in tiny numbers.
"""

HINT = "to_onnx(…, verify=False) returns the model as it is"


class DiffersFromTorchError(VerificationError):
    """An exported model differs from its module.

    Attributes:
        output: The name of the output that differs most.
        inputs: The inputs on which it differs, by the names of the model's inputs.
    """

    def __init__(self, message: str, output: str, inputs: Mapping[str, Array]) -> None:
        super().__init__(f"{message}. {HINT}")
        self.output = output
        self.inputs = inputs


def verify(capture: Captured, eager: Eager, bound: Bound, operators: Iterable[Operator]) -> None:
    """Run the model and the module on the example and on generated inputs, and compare.

    Raises:
        DiffersFromTorchError: An output differs by more than rounding explains.
        ArgumentsError: The module does not run on its examples.
        NotRunnableError: No installed runtime runs the model.
    """
    if any(t.is_meta or isinstance(t, torch._subclasses.FakeTensor) for t in _all(eager, bound)):  # noqa: SLF001
        raise ArgumentsError(f"the module has no weights to compute with: {HINT}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _write(capture.model, path)
        with contextlib.closing(_Verification(capture, eager, bound, path)) as verification:
            verification.run(operators)


def _all(eager: Eager, bound: Bound) -> Iterator[Tensor]:
    yield from eager.module.parameters()
    yield from eager.module.buffers()
    yield from bound.tensors


def _write(model: ir.Model, path: Path) -> None:
    initializers = [v for graph in model.graphs() for v in graph.initializers.values()]
    size = sum(value.const_value.nbytes for value in initializers if value.const_value is not None)
    ir.save(model, path, external_data="model.data" if size > LARGE else None)


@dataclass
class _Verification:
    capture: Captured
    eager: Eager
    bound: Bound
    path: Path
    left_out: set[str] = field(default_factory=set)
    _runners: dict[RunnerKind, Runner] = field(default_factory=dict)
    _scales: dict[str, float] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _compared: int = 0

    def __post_init__(self) -> None:
        """Load the model in the first runtime that takes it."""
        model = self.capture.model
        self.names = [output.name or "" for output in model.graph.outputs]
        self.precisions = precision.of_outputs(model)
        self.task = Task(self.path, None, TIMEOUT)
        try:
            chosen = choose(self.task, self.task.runtimes())
        except NotRunnableError as error:
            reason = str(error).removeprefix(f"{self.path}: ")
            raise NotRunnableError(
                f"the exported model cannot be verified, {reason}; {HINT}"
            ) from error
        self.main: RunnerKind = chosen.runner.runtime
        self._runners[self.main] = chosen.runner
        if chosen.why:
            logger.warning("to_onnx: compared in %s, since %s", WORDS[self.main], chosen.why)

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()

    def run(self, operators: Iterable[Operator]) -> None:
        example = ModuleInputs("the example", self.bound.tensors)
        wanted = self._wanted(example)
        self._leave_out_random(wanted, self._wanted(example))
        self._compare(example, wanted, operators)
        ends = time.monotonic() + SECONDS
        exported = self.capture.program
        for case in drawn(self.bound.tensors, exported, self.capture.model):
            if time.monotonic() > ends:
                break
            try:
                wanted = self.eager.outputs(case.tensors)
            except Exception:  # noqa: BLE001, S112 - what the module refuses is no input of it
                continue
            self._compare(case, wanted, operators)
        origin = "the example and others of its types, drawn with a fixed seed"
        evidence = Evidence(level="sampled", inputs=self._compared, drawn=origin)
        logger.info("to_onnx: no difference found, %s", evidence.words())

    def _wanted(self, example: ModuleInputs) -> list[Array]:
        try:
            return self.eager.outputs(example.tensors)
        except Exception as error:
            raise ArgumentsError(
                f"the module cannot be called with these examples: {type(error).__name__}: "
                f"{error}; {HINT}"
            ) from error

    def _leave_out_random(self, once: Sequence[Array], again: Sequence[Array]) -> None:
        """Find random outputs: by the graph, and by two runs of the module."""
        self.left_out |= random_outputs.outputs(self.capture.model)
        for name, one, other in zip(self.names, once, again, strict=False):
            if between(one, other, self.precisions[name].tolerance, lenient=False).used > 1:
                self.left_out.add(name)
        for name in sorted(self.left_out):
            logger.warning("to_onnx: output %s is random, and not compared", name)

    def _compare(
        self, case: ModuleInputs, wanted: Sequence[Array], operators: Iterable[Operator]
    ) -> None:
        if len(wanted) != len(self.names):
            raise DiffersFromTorchError(
                f"the exported model has {len(self.names)} outputs, and the module returns "
                f"{len(wanted)} tensors",
                "",
                self._inputs(case),
            )
        if not case.extreme:
            self._note_scales(wanted)
        try:
            found = self._found(case, wanted, self.main)
        except Refused as error:
            raise DiffersFromTorchError(
                f"the exported model fails on {case.name}, which the module computes: {error}",
                "",
                self._inputs(case),
            ) from error
        wrong = {name: one for name, one in found.items() if one.used > 1}
        wrong = self._without_noise(case, wanted, wrong)
        confirmed, by = self._confirmed(case, wanted, wrong)
        if not confirmed:
            self._compared += 1
            return
        if case.name == NAN:
            logger.warning("to_onnx: outputs %s differ where inputs are NaN", ", ".join(confirmed))
            return
        name = max(confirmed, key=lambda name: (confirmed[name].used, confirmed[name].wrong))
        inputs = self._inputs(case)
        message = _sentence(name, confirmed[name], case, inputs)
        first = blame.first_difference(self.capture, self._load, case, inputs, operators)
        raise DiffersFromTorchError(f"{message}, by {by}{first}", name, inputs)

    def _note_scales(self, wanted: Sequence[Array]) -> None:
        """Keep the largest finite number of each output, on ordinary inputs."""
        for name, array in zip(self.names, wanted, strict=True):
            if is_float(array):
                sizes = np.abs(array.astype(np.float64))
                largest = float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))
                self._scales[name] = max(self._scales.get(name, 0.0), largest)

    def _load(self, extra: Sequence[str]) -> Runner:
        return Runner(replace(self.task, extra=extra), self.main)

    def _inputs(self, case: ModuleInputs) -> dict[str, Array]:
        return dict(zip(self.bound.names, map(array_of, case.tensors), strict=True))

    def _found(
        self, case: ModuleInputs, wanted: Sequence[Array], runtime: RunnerKind
    ) -> dict[str, Difference]:
        """Return the difference of each output that is compared."""
        if runtime not in self._runners:
            self._runners[runtime] = Runner(self.task, runtime)
        got = self._runners[runtime].run(self._inputs(case))
        return {
            name: self._difference(name, want, got.get(name), case)
            for name, want in zip(self.names, wanted, strict=True)
            if name not in self.left_out
        }

    def _difference(self, name: str, want: Array, got: Value, case: ModuleInputs) -> Difference:
        """Return the difference of ``got`` from the module's result ``want``."""
        precision = self.precisions[name]
        slack = np.full(np.shape(want), FLOOR * precision.epsilon * self._scales.get(name, 0.0))
        return between(want, got, precision.tolerance, lenient=case.extreme, slack=slack)

    def _without_noise(
        self, case: ModuleInputs, wanted: Sequence[Array], wrong: Mapping[str, Difference]
    ) -> dict[str, Difference]:
        """Drop differences that the module shows as well if the last bits of its inputs change."""
        return {
            name: one
            for name, one in wrong.items()
            if not self._is_noise(name, one, case, wanted[self.names.index(name)])
        }

    def _is_noise(self, name: str, found: Difference, case: ModuleInputs, want: Array) -> bool:
        source, index = np.random.default_rng(0), self.names.index(name)
        step = self.precisions[name].step
        for _ in range(NUDGES):
            tensors = [_nudged(tensor, step, source) for tensor in case.tensors]
            try:
                moved = self._difference(name, want, self.eager.outputs(tensors)[index], case)
            except Exception:  # noqa: BLE001 - at the edge of what the module takes
                return False
            if np.isinf(found.used) and np.isinf(moved.used):  # integers, say
                if 0 < found.wrong <= NOISE * moved.wrong:
                    return True
            elif moved.used > 1 / NOISE and found.used <= NOISE * moved.used:
                return True
        return False

    def _confirmed(
        self, case: ModuleInputs, wanted: Sequence[Array], wrong: Mapping[str, Difference]
    ) -> tuple[dict[str, Difference], str]:
        """Return the differences that the evaluator confirms: ONNX Runtime may be at fault."""
        if not wrong or self.main == "reference":
            return dict(wrong), WORDS[self.main]
        try:
            others = self._found(case, wanted, "reference")
        except Refused:
            return dict(wrong), WORDS[self.main]
        for name, one in wrong.items():
            if others[name].used <= 1 and name not in self._said:
                self._said.add(name)
                logger.warning(
                    "to_onnx: %s gives another output %s than the module does (%s: up to %.3g); "
                    "the model is right in %s",
                    *(WORDS[self.main], name, case.name, one.absolute, WORDS["reference"]),
                )
        confirmed = {name: one for name, one in wrong.items() if others[name].used > 1}
        return confirmed, f"{WORDS[self.main]} and {WORDS['reference']} alike"


def _nudged(tensor: Tensor, step: float, source: np.random.Generator) -> Tensor:
    """Return ``tensor``, each float moved by ``step`` of itself, or by some ULP."""
    if not tensor.is_floating_point():
        return tensor
    signs = torch.from_numpy(source.choice([-1.0, 1.0], tuple(tensor.shape)))
    by = max(step, ROUNDINGS * torch.finfo(tensor.dtype).eps)
    moved = tensor.detach().double().cpu() * (1 + signs * by)
    return moved.to(tensor.device, tensor.dtype).requires_grad_(tensor.requires_grad)


def _sentence(name: str, found: Difference, case: ModuleInputs, inputs: Mapping[str, Array]) -> str:
    place = found.place
    if place is None or place.index is None:
        is_, not_ = ("", "") if place is None else (place.rewritten, place.original)
        return f"the exported model differs from the module: output {name} is {is_}, not {not_}"
    at = ", ".join(
        f"{label}={array[place.index].item()!r}"
        for label, array in inputs.items()
        if array.shape and len(array.shape) == len(place.index) and _has(array, place.index)
    )
    return (
        f"the exported model differs from the module: output {name} at {list(place.index)} is "
        f"{place.rewritten!r}, not {place.original!r}"
        f"{', for ' + at if at else ''} (inputs: {case.name}; largest difference "
        f"{found.absolute:.3g}; {found.wrong} elements differ)"
    )


def _has(array: Array, index: Sequence[int]) -> bool:
    return all(place < size for place, size in zip(index, array.shape, strict=True))
