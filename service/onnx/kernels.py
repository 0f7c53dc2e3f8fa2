"""Native kernels: operators of the domain ``ai.gatewave`` in a library for ONNX Runtime.

The library lies in the folder `service`. Without it, ONNX Runtime computes a node by the function
in the node's file. One operator of the library, ``Kernels``, returns a list of its kernels.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from gatewave.service.errors import KernelsUnavailable, SettingsInvalid
from gatewave.service.system.devices import KernelMode

INSTRUCTIONS = "ai.gatewave.instructions"
"""Session configuration entry that selects the library's instruction set."""

OPERATORS = "ai.gatewave.operators"
"""Session configuration entry with the operators to register: all of them take a millisecond."""

SUFFIXES = ("", "ValueAndGrad", "VJP")
"""Suffixes of the three operators of each kernel."""

CURE = "it was not built (for CUDA that needs nvcc); in a checkout `make native` builds it"

FUNCTION_BODY = "function body"
STANDARD = "standard operators"

log = logging.getLogger(__name__)

Options = Callable[[], ort.SessionOptions]


@dataclass(frozen=True, slots=True)
class Kernels:
    """Library of native kernels, or the reason for its absence.

    Attributes:
        path: The library, if it exists and may be used.
        instructions: The instruction set that it uses.
        forced: The instruction set of the settings; empty if the library chose the best.
        operators: Names of its operators, which exist in all dtypes.
        absence: Reason why it is not used; empty if it is.
        demanded: True if function bodies may not replace missing kernels.
    """

    path: Path | None = None
    instructions: str = ""
    forced: str = ""
    operators: frozenset[str] = frozenset()
    absence: str = ""
    demanded: bool = False
    # Options that the library is registered with keep it loaded while no session is open.
    _loaded: ort.SessionOptions | None = field(default=None, repr=False, compare=False)

    @classmethod
    def find(
        cls,
        path: Path,
        mode: KernelMode,
        instructions: str,
        options: Options,
        providers: Sequence[Any],
    ) -> Kernels:
        """Load the library at ``path`` into ONNX Runtime, if ``mode`` allows it.

        Args:
            path: The file, which may not exist.
            mode: Use of the library in the settings.
            instructions: The instruction set to use; empty means the best.
            options: Factory of options for a session in this process.
            providers: Execution providers of such a session.

        Raises:
            KernelsUnavailable: ``mode`` is ``native``, and the library is missing or does not work.
            SettingsInvalid: The library or the processor does not have the instruction set, or the
                library is not used.
        """
        if mode == "function":
            _in_vain(instructions, mode, "function bodies have none")
            return cls(absence="GATEWAVE_KERNELS=function")
        try:
            found = cls._load(path, instructions, options, demanded=mode == "native")
            found.verify(options(), providers)
        except KernelsUnavailable as error:
            if mode == "native":
                raise KernelsUnavailable(f"GATEWAVE_KERNELS=native: {error}") from error
            _in_vain(instructions, mode, str(error))
            is_there = path.exists()
            level = logging.WARNING if is_there else logging.INFO
            log.log(level, "the native kernels are not used", extra={"reason": str(error)})
            return cls(path if is_there else None, absence=str(error))
        return found

    @classmethod
    def _load(cls, path: Path, forced: str, options: Options, *, demanded: bool) -> Kernels:
        if not path.exists():
            raise KernelsUnavailable(f"there is no {path}: {CURE}")
        about, loaded = _described(path, "", options)
        if forced:
            if forced not in about["supported"]:
                known = ", ".join(about["supported"])
                msg = f"GATEWAVE_KERNELS_INSTRUCTIONS must be one of {known}, not {forced!r}"
                raise SettingsInvalid(msg)
            about, loaded = _described(path, forced, options)
        operators = frozenset(name + suffix for name in about["kernels"] for suffix in SUFFIXES)
        return cls(
            path,
            about["instructions"],
            forced,
            operators,
            demanded=demanded,
            _loaded=loaded,
        )

    def verify(self, options: ort.SessionOptions, providers: Sequence[Any]) -> None:
        """Check the result of a kernel.

        A library for GPUs also loads with a driver or a GPU that is too old for its code.

        Raises:
            KernelsUnavailable: The run failed, or its result is wrong.
        """
        try:
            self.register(options, frozenset({"Sinc"}))
            session = ort.InferenceSession(PROOF, options, providers=providers)
            session.disable_fallback()
            (y,) = session.run(None, {"x": np.array([0.5], np.float32)})
        except Exception as error:
            msg = f"{self.path} loads, and fails on one element: {error}"
            raise KernelsUnavailable(msg) from error
        if abs(y[0] - 2 / math.pi) > np.finfo(np.float32).eps:
            msg = f"{self.path} loads, and computes that sinc(0.5) is {y[0]}"
            raise KernelsUnavailable(msg)

    @property
    def implementation(self) -> str:
        """Implementation of its operators, for people."""
        return f"native {self.instructions}" if self.operators else FUNCTION_BODY

    def register(
        self, options: ort.SessionOptions, operators: frozenset[str] | None = None
    ) -> None:
        """Register the library with the ``options`` of a session.

        Args:
            options: The options.
            operators: Operators of the domain ``ai.gatewave`` in the session's graph; None means
                unknown.
        """
        wanted = self.operators if operators is None else self.operators & operators
        if self.path is not None and wanted:
            names = () if operators is None else wanted
            _register(options, self.path, self.forced, names)

    def serving(self, operators: frozenset[str]) -> str:
        """Return the implementation of a graph with these ``operators`` of our domain.

        Raises:
            KernelsUnavailable: Kernels are demanded, and one is missing.
        """
        if not operators:
            return STANDARD
        missing = operators - self.operators
        if missing and self.demanded:
            names = ", ".join(sorted(missing))
            raise KernelsUnavailable(f"GATEWAVE_KERNELS=native: {self.path} has no {names}")
        return FUNCTION_BODY if missing else self.implementation


def _in_vain(instructions: str, mode: KernelMode, why: str) -> None:
    """Refuse an instruction set that has no effect."""
    if instructions:
        msg = (
            f"GATEWAVE_KERNELS_INSTRUCTIONS={instructions} is for kernels, and with "
            f"GATEWAVE_KERNELS={mode} none are used: {why}"
        )
        raise SettingsInvalid(msg)


NO_KERNELS = Kernels(absence="they were not searched for")


def _described(
    path: Path, instructions: str, options: Options
) -> tuple[dict[str, Any], ort.SessionOptions]:
    """Return the library's description of itself, and options that it is registered with."""
    with_library = options()
    try:
        _register(with_library, path, instructions, ["Kernels"])
        session = ort.InferenceSession(
            DESCRIPTION, with_library, providers=["CPUExecutionProvider"]
        )
        (text,) = session.run(None, {})
        about: dict[str, Any] = json.loads(text.tobytes())
        if not {"instructions", "supported", "kernels"} <= about.keys():
            raise ValueError(f"expected kernels that it has, got {about}")  # noqa: TRY301
    except Exception as error:
        msg = f"{path} does not load into ONNX Runtime {ort.__version__}: {error}"
        raise KernelsUnavailable(msg) from error
    return about, with_library


def _register(
    options: ort.SessionOptions, path: Path, instructions: str, operators: Collection[str]
) -> None:
    """Register the library; all of its operators, if no ``operators`` are named."""
    if instructions:
        options.add_session_config_entry(INSTRUCTIONS, instructions)
    if operators:
        options.add_session_config_entry(OPERATORS, ",".join(sorted(operators)))
    options.register_custom_ops_library(str(path))


DESCRIPTION = (
    b'\x08\x08:0\n\x19\x12\x01t"\x07Kernels:\x0bai.gatewave\x12\x01kb\x10\n\x01t\x12\x0b\n\t\x08'
    b"\x02\x12\x05\n\x03\x12\x01nB\x0f\n\x0bai.gatewave\x10\x01"
)
"""ONNX model ``t = ai.gatewave::Kernels()``; the result is JSON in UTF-8, as bytes."""

PROOF = (
    b'\x08\x08:@\n\x19\n\x01x\x12\x01y"\x04Sinc:\x0bai.gatewave\x12\x011Z\x0f\n\x01x\x12\n\n'
    b"\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"B\x0f\n\x0bai.gatewave\x10\x01"
)
"""ONNX model ``y = ai.gatewave::Sinc(x)`` for one float32."""
