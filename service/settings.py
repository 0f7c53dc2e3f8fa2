"""Everything that may differ between two deployments, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Device = Literal["auto", "cpu", "cuda"]


class Settings(BaseSettings):
    """Read once, from ``GATEWAVE_*`` environment variables, when the app is created."""

    model_config = SettingsConfigDict(env_prefix="GATEWAVE_", frozen=True)

    artifacts: Path = Field(
        default=Path("artifacts"), description="The folder that `gatewave export` wrote."
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="The port; 0 lets the system choose."
    )
    device: Device = Field(
        default="auto",
        description="Where to compute: `cuda` refuses to start where CUDA does not really work, "
        "`auto` takes CUDA if it works and the CPU otherwise.",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="Compute threads; 0 means the CPUs really available."
    )
    inline_bytes: int = Field(
        default=1 << 16,
        ge=0,
        description="Requests up to this size are answered on the event loop, others in a thread.",
    )
    max_body_bytes: int = Field(default=1 << 26, ge=1, description="The longest request body.")
    max_json_bytes: int = Field(
        default=1 << 23,
        ge=1,
        description="The longest body in JSON: reading it holds up others, as safetensors do not.",
    )
    body_seconds: float = Field(
        default=30.0, gt=0, description="How long a caller may take to send a body."
    )
    max_elements: int = Field(
        default=1 << 23, ge=1, description="The most numbers in all tensors of a request together."
    )
    max_rank: int = Field(
        default=16, ge=1, le=64, description="The most axes of a tensor: how deep lists may nest."
    )
    max_batch: int = Field(
        default=256, ge=1, description="The most evaluations in one request to /activate/batch."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe log line written."
    )
    access_log: bool = Field(default=True, description="Whether each request is logged.")
