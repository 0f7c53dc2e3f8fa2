"""The native kernels: operators of our domain that ONNX Runtime computes in place of their bodies.

They are in a library beside this package's modules, or there is none: then a node is computed by
the function that its file carries. What the library has, it says itself, by an operator that gives
a text.
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
from gatewave.service.settings import KernelMode

INSTRUCTIONS = "ai.gatewave.instructions"
"""The entry of a session's configuration by which the library is told an instruction set."""

OPERATORS = "ai.gatewave.operators"
"""And the operators that the session needs: registering all of them takes a millisecond."""

SUFFIXES = ("", "ValueAndGrad", "VJP")
"""Behind a kernel's name, what the library's three operators of it are called."""

CURE = "it was not built (for CUDA that needs nvcc); in a checkout `make native` builds it"

FUNCTION_BODY = "function body"
STANDARD = "standard operators"

log = logging.getLogger(__name__)

Options = Callable[[], ort.SessionOptions]


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a library computes; where none is used, nothing.

    Attributes:
        path: The library, if there is one and it is wanted.
        instructions: The instruction set that it uses.
        forced: The one that it was told to use; none, if it chose the best.
        operators: The names of its operators, in all dtypes.
        absence: Why it is not used, if so.
        demanded: Whether nothing that it could compute may be computed otherwise.
    """

    path: Path | None = None
    instructions: str = ""
    forced: str = ""
    operators: frozenset[str] = frozenset()
    absence: str = ""
    demanded: bool = False
    # Registered, and kept: the system lets go of a library that no session is open with.
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
        """The library at ``path``, loaded into ONNX Runtime, as far as ``mode`` wants it.

        Args:
            path: Where it is, if it was built.
            mode: Whether to use it.
            instructions: Which instruction set it is to use; the best, if empty.
            options: Makes the options of a session that may be opened in this process.
            providers: What such a session computes with.

        Raises:
            KernelsUnavailable: It is demanded, and is not there, or does not load or compute.
            SettingsInvalid: It does not have the instruction set, or this processor has not; or
                the library that is told to use it is not used.
        """
        if mode == "function":
            _in_vain(instructions, mode, "function bodies have none")
            return cls(absence="GATEWAVE_KERNELS=function")
        try:
            found = cls._load(path, instructions, options, demanded=mode == "native")
            found.prove(options(), providers)
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

    def prove(self, options: ort.SessionOptions, providers: Sequence[Any]) -> None:
        """Run a kernel, and see that it computes.

        A library for GPUs loads where the driver is too old, or the GPU is, for what is in it.

        Raises:
            KernelsUnavailable: It does not.
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
        """What computes the operators that it has."""
        return f"native {self.instructions}" if self.operators else FUNCTION_BODY

    def register(
        self, options: ort.SessionOptions, operators: frozenset[str] | None = None
    ) -> None:
        """Have a session with these ``options`` use the library.

        Args:
            options: The session's.
            operators: Those of our domain that its graph has; none means that nobody knows.
        """
        wanted = self.operators if operators is None else self.operators & operators
        if self.path is not None and wanted:
            names = () if operators is None else wanted
            _register(options, self.path, self.forced, names)

    def serving(self, operators: frozenset[str]) -> str:
        """What computes a graph with these ``operators`` of our domain, for people.

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
    """Refuse an instruction set that nothing would use."""
    if instructions:
        msg = (
            f"GATEWAVE_KERNELS_INSTRUCTIONS={instructions} is for kernels, and with "
            f"GATEWAVE_KERNELS={mode} none are used: {why}"
        )
        raise SettingsInvalid(msg)


NO_KERNELS = Kernels(absence="nobody looked for them")


def _described(
    path: Path, instructions: str, options: Options
) -> tuple[dict[str, Any], ort.SessionOptions]:
    """What the library says of itself; and options that it is registered with."""
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
"""An ONNX model: ``t = ai.gatewave::Kernels()``, a text in UTF-8 as bytes."""

PROOF = (
    b'\x08\x08:@\n\x19\n\x01x\x12\x01y"\x04Sinc:\x0bai.gatewave\x12\x011Z\x0f\n\x01x\x12\n\n'
    b"\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"B\x0f\n\x0bai.gatewave\x10\x01"
)
"""And one of ``y = ai.gatewave::Sinc(x)``, of one float32."""
