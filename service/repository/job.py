"""What the process that serves and the one that tries a model say to each other."""

from __future__ import annotations

from pydantic import BaseModel

from service.settings import Device, KernelMode

COPIES = 4
"""How often a graph may be in memory while it is loaded: read, parsed, optimized, packed."""


class Job(BaseModel):
    """A version to try, and what it may take.

    Attributes:
        config: The text of config.yaml.
        kernels: Whether the native kernels compute it.
        instructions: The instruction set that they are told to use, if any.
        most_bytes: How many bytes its files may have together.
        seconds: How long it may take to be loaded and run.
        proof_seconds: How long the proof that batching is exact may take after that.
    """

    root: str
    folder: str
    config: str
    device: Device
    kernels: KernelMode
    instructions: str
    threads: int
    arena_bytes: int
    most_bytes: int
    seconds: float
    proof_seconds: float


class Report(BaseModel):
    """What became of it; of one that can be served, there is one before the proof, and one after.

    Attributes:
        refused: Why it cannot be served, if so.
        shaped: The inputs and outputs whose shape the file declares.
        digests: The SHA-256 of each file that was tried, by its path in the version's folder.
        batched: Whether its requests may be put together.
        note: Why they are, or are not.
        hazard: Why the graph may end or hold its process, if it may.
    """

    refused: str = ""
    shaped: list[str] = []
    digests: dict[str, str] = {}
    batched: bool = False
    note: str = ""
    hazard: str = ""
