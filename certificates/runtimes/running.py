"""A runtime at work: a process that loads one model after the other, and runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gatewave.certificates.runtimes import environments
from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.graphs.processes.channel import Lost, Refused, Value, receive, send
from gatewave.graphs.processes.reasons import reason_of
from gatewave.graphs.processes.subprocesses import Ended, Process


class Running:
    """A runtime's process, started when it is needed.

    Args:
        runtime: The runtime.
        seconds: Limit on each of: its start, loading a model, running it.

    Raises:
        NotRunnableError: Its environment is not there.
    """

    def __init__(self, runtime: Runtime, seconds: float = 120.0) -> None:
        self.runtime = runtime
        self.seconds = seconds
        self._command = environments.command(runtime)
        self._process: Process | None = None
        self._versions: dict[str, str] = {}

    def versions(self) -> dict[str, str]:
        """Return the versions of the runtime's packages.

        Raises:
            Refused: The process does not start.
        """
        self._started()
        return self._versions

    def load(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], *, wrapped: bool = False
    ) -> None:
        """Load the model in ``path`` with these ports.

        Args:
            path: Its file.
            inputs: Names of its inputs.
            outputs: Names of its outputs that are wanted.
            wrapped: True if sequences of tensors are valid results.

        Raises:
            Refused: The runtime does not load it.
        """
        self._started()
        ports = {"inputs": list(inputs), "outputs": list(outputs)}
        message = {"path": str(path), **ports, "wrapped": wrapped}
        self._ask("loading the model", message, {})

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """The outputs of the model that it loaded last.

        Raises:
            Refused: It fails to run the model.
        """
        return self._ask("running the model", {}, inputs)[1]

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> None:
        if self._process is None:
            self._process = Process(self._command, environments.variables(self.runtime))
            self._versions = self._ask("starting", {}, {})[0]["versions"]

    def _ask(
        self, doing: str, message: Mapping[str, Any], values: Mapping[str, Value]
    ) -> tuple[dict[str, Any], dict[str, Value]]:
        if self._process is None:
            raise Lost("the process has ended")
        try:
            with self._process.answering(self.seconds):
                send(self._process.requests, message, values)
                answer, results = receive(self._process.answers)
        except Ended as error:
            self.close()
            raise Lost(f"{doing} {error}") from error
        except BaseException:  # a later answer would be taken for another
            self.close()
            raise
        if "error" in answer:
            raise Refused(reason_of(answer["error"]))
        return answer, results
