"""Messages between the serving process and the process that tries a model."""

from __future__ import annotations

from pydantic import BaseModel

from gatewave.service.system.devices import Device, KernelMode

COPIES = 4
"""Copies of a graph in memory while it is loaded: read, parsed, optimized, packed."""


class LoadSettings(BaseModel):
    """Version to load, and the engine for it.

    Attributes:
        config: The text of config.yaml.
        kernels: Whether the native kernels compute it.
        instructions: The instruction set that the kernels must use, if any.
        max_bytes: Limit on the bytes of all its files.
    """

    folder: str
    config: str
    device: Device
    kernels: KernelMode
    instructions: str
    threads: int
    arena_bytes: int
    max_bytes: int


class TrialJob(LoadSettings):
    """Version to try, and the limits of the trial.

    Attributes:
        seconds: Time limit for loading and running.
        batching_seconds: Time limit for the following check of batching.
    """

    root: str
    seconds: float
    batching_seconds: float


class TrialReport(BaseModel):
    """Result of a trial. The process sends one before the check of batching, and one after it.

    Attributes:
        refused: The reason why the model cannot be served; empty if it can.
        needs: Bytes that the arena must have at least, if its size is the reason; otherwise 0.
        warmup: The shapes of the inputs that the model ran on, if sizes were raised for it.
        shaped: The inputs and outputs with a declared shape.
        digests: The SHA-256 of each file that was tried, by its path in the version's folder.
        batched: Whether requests may be batched.
        note: The reason for batching or its absence.
        hazard: The reason why the graph may end or block its process; empty if it cannot.
    """

    refused: str = ""
    needs: int = 0
    warmup: dict[str, tuple[int, ...]] = {}
    shaped: list[str] = []
    digests: dict[str, str] = {}
    batched: bool = False
    note: str = ""
    hazard: str = ""
