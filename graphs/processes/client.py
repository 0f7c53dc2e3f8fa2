"""Client of a worker, and the commands that start workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gatewave.graphs.processes.errors import Lost, Refused
from gatewave.graphs.processes.messages import InvalidMessageError, Value, receive, send
from gatewave.graphs.processes.reasons import reason_of
from gatewave.graphs.processes.subprocesses import Process

START_SECONDS = 120.0
"""Time that a worker may take to start: TensorFlow's import takes long on a busy machine."""

WORKER = Path(__file__).with_name("worker.py")
NODE_WORKER = Path(__file__).with_name("worker.mjs")

OWN_PYTHON = Path(sys.executable)

OF_OUR_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "COVERAGE_PROCESS_START"})
"""Variables about our own Python, which would mislead another one."""

NODE_RESPONSES = 'exec node "$@" 3>&1 1>&2'
"""Shell script that starts Node with the pipe of responses as descriptor 3.

Node cannot duplicate its descriptors, and libraries print to the standard output.
"""


class Client:
    """Client of one worker process.

    `start` starts the process unless it runs. After a crash or a timeout the process is gone, and
    `start` starts another; what the old one had loaded is lost.

    Args:
        command: Command of the worker: see `python_worker` and `node_worker`.
        variables: Environment variables of the process.
        seconds: Time limit for one request. The start has at least `START_SECONDS`.

    Attributes:
        about: The worker's description of itself.
    """

    def __init__(
        self, command: Sequence[str], variables: Mapping[str, str], seconds: float
    ) -> None:
        self.seconds = seconds
        self.about: dict[str, Any] = {}
        self._command = command
        self._variables = variables
        self._process: Process | None = None
        self._started = False
        self._end = ""

    def launch(self) -> None:
        """Start the process unless it runs, without waiting for its imports: see `start`.

        Raises:
            NotStarted: The system does not start it.
        """
        if self._process is None:
            self._process, self._end = Process(self._command, self._variables), ""
            self._started = False

    def start(self) -> Self:
        """Start the process unless it runs, and wait until it has imported its libraries.

        Raises:
            Refused: The worker cannot import them.
            Lost: The process crashed, or did not start in time.
            NotStarted: The system does not start it.
        """
        self.launch()
        if self._process is not None and not self._started:
            try:
                limit = max(START_SECONDS, self.seconds)
                self.about, _ = self._response(self._process, "starting", limit)
            except BaseException:
                self.close()
                raise
            self._started = True
        return self

    def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        values: Mapping[str, Value] | None = None,
        *,
        task: str = "",
    ) -> tuple[dict[str, Any], dict[str, Value]]:
        """Send a request, and return the result and the values of its response.

        Args:
            method: The handler of the worker.
            params: Its parameters, in JSON.
            values: Arrays for it.
            task: Description of the request for error messages, such as ``loading the model``.

        Raises:
            Refused: The worker answered with an error.
            Lost: The worker crashed, took too long, or sent no valid response.
        """
        if self._process is None:
            raise Lost(f"the process has ended{self._end}")
        request = {"method": method, "params": {**(params or {})}}
        return self._response(self._process, task, self.seconds, request, values or {})

    def close(self) -> None:
        """End the process and its children."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _response(
        self,
        process: Process,
        task: str,
        seconds: float,
        request: Mapping[str, Any] | None = None,
        values: Mapping[str, Value] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Value]]:
        try:
            with process.answering(seconds, task):
                if request is not None:
                    send(process.requests, request, values or {})
                response, results = receive(process.responses)
                result, error = _parsed(response)
        except InvalidMessageError as problem:
            self.close()
            self._end = f": it gave no valid response: {problem}"
            raise Lost(f"got no valid response: {problem}", task=task) from problem
        except BaseException as problem:
            # The response of an interrupted request would be taken for that of the next one.
            self.close()
            self._end = f": it {problem.how}" if isinstance(problem, Lost) else ""
            raise
        if error is not None:
            raise error
        return result, results


def _parsed(response: Mapping[str, Any]) -> tuple[dict[str, Any], Refused | None]:
    """Return the result and the error of a response; one of them is empty."""
    match response:
        case {"error": {"type": str(kind), "message": str(message)}}:
            reason = f"{kind}: {message}" if kind else message
            return {}, Refused(reason_of(reason), message)
        case {"result": dict(result)}:
            return result, None
    raise InvalidMessageError("it is neither a result nor an error")


def python_worker(handlers: Path, *arguments: str, python: Path = OWN_PYTHON) -> list[str]:
    """Return the command of a worker with the handlers in the file ``handlers``.

    ``-P`` keeps the folder of `worker.py` off the search path of modules.
    """
    return [str(python), "-P", str(WORKER), str(handlers), *arguments]


def node_worker(handlers: Path, *arguments: str) -> list[str]:
    """Return the command of a worker under Node with the handlers in ``handlers``."""
    return ["sh", "-c", NODE_RESPONSES, "node", str(NODE_WORKER), str(handlers), *arguments]


def own_variables() -> dict[str, str]:
    """Return the variables of a worker in our own Python, which finds the modules that we find."""
    return {**os.environ, "PYTHONPATH": _own_paths(), "ORT_DISABLE_TELEMETRY": "1"}


def foreign_variables() -> dict[str, str]:
    """Return the variables of a worker in another environment."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_OUR_PYTHON}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


def variables_of(python: Path) -> dict[str, str]:
    """Return the variables of a worker in ``python``, which may be our own Python."""
    return own_variables() if python == OWN_PYTHON else foreign_variables()


def _own_paths() -> str:
    """Return the folders that this process imports from, as PYTHONPATH has them.

    The working directory is not among them: a model's folder may hold a ``numpy.py``.
    """
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
