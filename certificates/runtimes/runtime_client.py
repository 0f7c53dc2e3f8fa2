"""Client of a runtime, which loads one model after the other and runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from gatewave.certificates.runtimes import environments
from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.graphs.processes.client import Client
from gatewave.graphs.processes.messages import Value


class RuntimeClient:
    """Client of the process of a runtime. The process starts with the first request.

    A model that crashes the process is gone; `load` starts another one.

    Args:
        runtime: The runtime.
        seconds: Limit for loading a model, and for running it.

    Raises:
        NotRunnableError: The runtime's environment is not installed.
    """

    def __init__(self, runtime: Runtime, seconds: float = 120.0) -> None:
        self.runtime = runtime
        self.seconds = seconds
        command, variables = environments.command(runtime), environments.variables(runtime)
        self._client = Client(command, variables, seconds)

    def versions(self) -> dict[str, str]:
        """Return the versions of the runtime's packages.

        Raises:
            Refused: The process does not start.
        """
        versions: dict[str, str] = self._client.start().about["versions"]
        return versions

    def load(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], *, sequences: bool = False
    ) -> None:
        """Load the model in ``path``, in the place of an earlier one.

        Args:
            path: Its file.
            inputs: Names of its inputs.
            outputs: Names of the outputs that are wanted.
            sequences: True if sequences of tensors are valid results.

        Raises:
            Refused: The runtime does not load it.
        """
        params = {
            "path": str(path),
            "inputs": list(inputs),
            "outputs": list(outputs),
            "sequences": sequences,
        }
        self._client.start().ask("load", params, task="loading the model")

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Return the outputs of the model that was loaded last.

        Raises:
            Refused: The runtime does not run the model on ``inputs``.
        """
        return self._client.ask("run", values=inputs, task="running the model")[1]

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
