"""Client of an ONNX Runtime that is probed, in any Python environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from gatewave.graphs.errors import TargetError
from gatewave.graphs.processes.client import OWN_PYTHON, Client, python_worker, variables_of
from gatewave.graphs.processes.errors import Lost, Refused
from gatewave.graphs.processes.messages import Array
from gatewave.graphs.targets.probe_models import VALUES

HANDLERS = Path(__file__).with_name("probe_worker.py")

SECONDS = 60.0
"""Time limit for one answer: a large model takes long to load."""


class ProbeClient:
    """Client that has models loaded and run, one after the other.

    A model that crashes the process is reported as `Lost`; the next one runs in a new process.

    Args:
        python: Interpreter that imports the runtime; a test may pass another program.
        seconds: Time limit for each answer.
    """

    def __init__(self, python: Path = OWN_PYTHON, seconds: float = SECONDS) -> None:
        self._python = python
        command = python_worker(HANDLERS, python=python)
        self._client = Client(command, variables_of(python), seconds)

    @property
    def about(self) -> dict[str, Any]:
        """Return the version, the providers and the build options of the runtime.

        Raises:
            TargetError: The process does not start.
        """
        return self._started().about

    def run(self, content: bytes, provider: str, *inputs: Any) -> Array:
        """Return the output of a model, in float64.

        Args:
            content: A model with one output.
            provider: Provider that runs it.
            inputs: Arrays, in the order of the model's inputs; without them, each input is
                `probe_models.VALUES`.

        Raises:
            Refused: The runtime does not load the model, or does not run it.
            Lost: The process crashed, or took too long.
            TargetError: The process does not start.
        """
        # In float64, as the worker may lack ml_dtypes, and with it bfloat16.
        arrays = {str(i): np.asarray(array, np.float64) for i, array in enumerate(inputs)}
        values = {"model": np.frombuffer(content, np.uint8), **arrays}
        params = {"provider": provider, "default": VALUES}
        result: Array = self._started().ask("run", params, values)[1]["y"]
        return result

    def refusal(self, model: bytes | Path, provider: str, *, optimised: bool = True) -> str:
        """Return the runtime's reason for not loading ``model``; empty if it loads.

        Raises:
            Lost: The process crashed, or took too long.
            TargetError: The process does not start.
        """
        params: dict[str, Any] = {"provider": provider, "optimised": optimised}
        values = {}
        if isinstance(model, Path):
            params["path"] = str(model.absolute())
        else:
            values["model"] = np.frombuffer(model, np.uint8)
        client = self._started()
        try:
            client.ask("load", params, values)
        except Lost:
            raise
        except Refused as error:
            return error.message
        return ""

    def schemas(self) -> list[dict[str, Any]]:
        """Return the schemas of the operators that the runtime itself defines.

        Raises:
            TargetError: They cannot be read, or the process does not start.
        """
        try:
            result, _ = self._started().ask("schemas")
        except Refused as error:
            raise TargetError(f"the schemas of the operators cannot be read: {error}") from error
        return list(result["schemas"])

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> Client:
        try:
            return self._client.start()
        except Refused as error:
            if self._python != OWN_PYTHON:
                raise TargetError(
                    f"the ONNX Runtime of {self._python} does not start ({error})"
                ) from error
            raise TargetError(
                f"target this: ONNX Runtime does not start ({error}); try `gatewave doctor`"
            ) from error
