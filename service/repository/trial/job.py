"""What the process that serves and the one that tries a model say to each other."""

from __future__ import annotations

from pydantic import BaseModel

from gatewave.service.settings import Device, KernelMode

COPIES = 4
"""Copies of a graph in memory while it is loaded: read, parsed, optimized, packed."""


class Setup(BaseModel):
    """A version to load, and the engine for it.

    Attributes:
        config: The text of config.yaml.
        kernels: Whether the native kernels compute it.
        instructions: The instruction set that the kernels must use, if any.
        most_bytes: Limit on the bytes of all its files.
    """

    folder: str
    config: str
    device: Device
    kernels: KernelMode
    instructions: str
    threads: int
    arena_bytes: int
    most_bytes: int


class Job(Setup):
    """A version to try, and its limits.

    Attributes:
        seconds: Time limit for loading and running.
        proof_seconds: Time limit for the following check that batching is exact.
    """

    root: str
    seconds: float
    proof_seconds: float


class Report(BaseModel):
    """Result of a trial; a served model has one before the check of batching, and one after.

    Attributes:
        refused: The reason why it cannot be served, if there is one.
        needs: Bytes that the arena must have at least, if its size is the reason; otherwise 0.
        warmup: The shapes of the inputs that it ran on, if sizes were raised for it.
        shaped: The inputs and outputs with a declared shape.
        digests: The SHA-256 of each file that was tried, by its path in the version's folder.
        batched: Whether its requests may be batched.
        note: The reason for batching or its absence.
        hazard: The reason why the graph may end or block its process, if there is one.
    """

    refused: str = ""
    needs: int = 0
    warmup: dict[str, tuple[int, ...]] = {}
    shaped: list[str] = []
    digests: dict[str, str] = {}
    batched: bool = False
    note: str = ""
    hazard: str = ""
