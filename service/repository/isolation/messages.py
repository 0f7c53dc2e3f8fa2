"""Messages between the serving process and a process that computes an isolated model."""

from __future__ import annotations

from pydantic import BaseModel, Field

from gatewave.service.repository.model import RepositoryModel
from gatewave.service.repository.trial.messages import LoadSettings
from gatewave.service.serving.model import Port


class IsolationSetup(LoadSettings):
    """Version to load, and its limits.

    Attributes:
        digests: Digests of its files as they were tried.
        shaped: Inputs and outputs with a declared shape.
        warmup: The shapes of the inputs that it ran on, if sizes were raised for it.
        request_bytes: Limit on the bytes of all requests under way.
        output_bytes: Limit on the bytes of the results of one run; 0 for batched models, for which
            the service checks the results of each request.
    """

    digests: dict[str, str]
    shaped: list[str]
    warmup: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    request_bytes: int
    output_bytes: int


class Signature(BaseModel):
    """Inputs and outputs of a loaded model, or the reason why it cannot be served."""

    refused: str = ""
    provider: str = ""
    inputs: list[tuple[str, str, list[int]]] = []
    outputs: list[tuple[str, str, list[int]]] = []
    optional: list[str] = []
    unranked: list[str] = []
    symbols: dict[str, list[str | None]] = {}

    @classmethod
    def of(cls, model: RepositoryModel) -> Signature:
        return cls(
            provider=model.provider,
            inputs=[_from_port(port) for port in model.inputs],
            outputs=[_from_port(port) for port in model.outputs],
            optional=sorted(model.optional),
            unranked=sorted(model.unranked),
            symbols={name: list(symbols) for name, symbols in model.symbols.items()},
        )


def _from_port(port: Port) -> tuple[str, str, list[int]]:
    return port.name, port.datatype, list(port.shape)


def to_port(written: tuple[str, str, list[int]]) -> Port:
    """Return the port that `Signature` has in this form."""
    name, datatype, shape = written
    return Port(name, datatype, tuple(shape))
