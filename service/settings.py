"""Everything that may differ between two deployments, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gatewave.service.quoting import CONFIDENTIAL
from gatewave.service.security.keys import Keys

Device = Literal["auto", "cpu", "cuda"]
KernelMode = Literal["auto", "native", "function"]

OWN_PATHS = frozenset(
    (
        *("activate", "activations", "docs", "livez", "metrics", "openapi.json", "readyz"),
        *("redoc", "static-offline-docs", "v2"),
    )
)
"""First segments of the service's paths; a prefix with one of them would be ambiguous."""


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
    kernels: KernelMode = Field(
        default="auto",
        description="Whether nodes of ours are computed by the native kernels: `native` refuses to "
        "start where they cannot be, `function` computes the graphs' function bodies, `auto` takes "
        "the kernels if they are there and load.",
    )
    kernels_instructions: str = Field(
        default="",
        max_length=32,
        description="The instruction set that the kernels use: `avx512`, `avx2`, `x86-64`, `neon`; "
        "none means the best that this processor has.",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="Compute threads; 0 means the CPUs really available."
    )
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes that share the port; CPUs are divided."
    )
    heartbeat_seconds: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="Silence of a worker's event loop after which the worker is killed and "
        "replaced; 0 means never.",
    )
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="The port for gRPC; none means no gRPC."
    )
    grpc_max_streams: int = Field(
        default=256,
        ge=1,
        description="The most open gRPC calls on one connection; clients delay further calls.",
    )
    grpc_idle_seconds: float = Field(
        default=900.0,
        gt=0,
        description="The longest time of a gRPC stream without a message, and of a gRPC "
        "connection without a call.",
    )
    grpc_max_age_seconds: float | None = Field(
        default=None,
        gt=0,
        description="The greatest age of a gRPC connection, so that clients spread over new "
        "workers or hosts; its calls are finished. None means any age.",
    )
    grpc_keepalive_seconds: float = Field(
        default=60.0,
        ge=1,
        description="Silence after which a gRPC connection is pinged.",
    )
    grpc_keepalive_timeout_seconds: float = Field(
        default=20.0,
        gt=0,
        description="The longest wait for the answer to such a ping, before the connection is "
        "closed.",
    )
    grpc_min_ping_seconds: float = Field(
        default=10.0,
        ge=0,
        description="The shortest time between two pings of a gRPC client with no data between "
        "them.",
    )
    grpc_max_ping_strikes: int = Field(
        default=2,
        ge=0,
        description="The most early pings that are tolerated before the connection is closed; "
        "0 means any number.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="A separate port for /metrics, /livez and /readyz; `port` then has no "
        "/metrics. None means that `port` serves /metrics.",
    )
    metrics_host: str | None = Field(
        default=None,
        description="The address of the port for metrics; None means `host`.",
    )
    repository: Path | None = Field(
        default=None, description="A folder of ONNX models: <name>/<version>/model.onnx."
    )
    repository_mode: Literal["fixed", "poll", "explicit"] = Field(
        default="fixed",
        description="When models are loaded: at the start only; also when files change (`poll`); "
        "or when an admin asks (`explicit`), which needs an admin key and one worker.",
    )
    repository_poll_seconds: float = Field(
        default=5.0, gt=0, description="How often the repository is looked at in mode `poll`."
    )
    max_model_bytes: int = Field(
        default=0,
        ge=0,
        description="The most bytes of all files of one version of a model in the repository. "
        "The files are read into memory; while a version is loaded, there are up to "
        "four copies. 0 means a quarter of the memory, divided by `workers`.",
    )
    keys: str = Field(
        default="",
        repr=False,
        description="Who may call: scope:sha256 of each key, with commas, as `gatewave key` prints "
        "them; scopes are infer and admin. None means that anybody may infer, and nobody is admin.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="A file of keys, one on each line, in addition to `keys`; it is read at the "
        "start and at SIGHUP. `#` begins a comment.",
    )
    allow_anonymous: bool = Field(
        default=False, description="Listen beyond this machine though there are no keys."
    )
    root_path: str = Field(
        default="",
        pattern=r"^((/[A-Za-z0-9._~-]+)+)?$",
        description="The prefix under which a proxy shows the service, such as `/gatewave`. "
        "Requests are answered with the prefix and without it, and links carry it.",
    )
    published_host: str | None = Field(
        default=None,
        description="Where callers reach the port, if not at `host`: a container's is published.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="The server's certificate chain, PEM; for HTTP and gRPC."
    )
    tls_key: Path | None = Field(default=None, description="Its private key, PEM.")
    tls_client_ca: Path | None = Field(
        default=None, description="Who signs clients' certificates; they must then have one."
    )
    traces: str | None = Field(
        default=None,
        description="Where OpenTelemetry traces go: an OTLP/HTTP address; needs gatewave[tracing].",
    )
    lanes: int = Field(
        default=0, ge=0, le=1024, description="Requests computed at a time; 0 means the CPUs."
    )
    max_queue: int = Field(
        default=256, ge=0, description="The most requests that wait for a lane; others get 503."
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="How long a request may wait, unless it says itself."
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        description="How long requests under way may take after SIGTERM, the grace included.",
    )
    grace_seconds: float = Field(
        default=2.0,
        ge=0,
        description="How long after SIGTERM new requests are still taken, though it is not ready "
        "any more: load balancers need that time to notice. Not after SIGINT.",
    )
    max_memory_bytes: int = Field(
        default=1 << 30,
        ge=1,
        description="What bodies and results of all requests under way may take together.",
    )
    max_connections: int = Field(
        default=0,
        ge=0,
        description="The most HTTP connections of a process; 0 means as many as there are file "
        "descriptors. At the limit, the connections that have been idle longest are "
        "closed.",
    )
    client_connections: int = Field(
        default=0,
        ge=0,
        description="The most HTTP connections of one address (of IPv6, a /64) in each process; "
        "0 means any number. A proxy in front of all callers is one address.",
    )
    client_requests_per_second: float = Field(
        default=0,
        ge=0,
        description="The most requests per second of one client in each process; further "
        "requests get 429. A client is a key or, without keys, an address. 0 means "
        "any number.",
    )
    client_memory_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="The part of `max_memory_bytes` that several requests of one client may "
        "hold together. A client is a key or, without keys, an address. If all "
        "callers come through one proxy, set 1.",
    )
    max_output_bytes: int = Field(
        default=1 << 28, ge=1, description="The most that one request's results may take."
    )
    arena_bytes: int = Field(
        default=1 << 30,
        ge=1 << 20,
        description="The most that ONNX Runtime may take for all models' tensors together.",
    )
    inline_bytes: int = Field(
        default=1 << 18,
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
        default=30.0,
        gt=0,
        description="How long a caller may take to send a body, or take nothing of an answer.",
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

    @field_validator("root_path")
    @classmethod
    def _prefix_of_no_path_of_ours(cls, root_path: str) -> str:
        first = root_path.split("/")[1] if root_path else ""
        if first in OWN_PATHS:
            msg = f"expected a prefix that begins with another name, got {root_path}"
            raise PydanticCustomError("root_path", "{reason}", {"reason": msg})
        return root_path

    @field_validator("keys")
    @classmethod
    def _keys_that_can_be_read(cls, keys: str) -> str:
        try:
            Keys.parse(keys)
        except ValueError as error:
            raise PydanticCustomError(CONFIDENTIAL, "{reason}", {"reason": str(error)}) from error
        return keys
