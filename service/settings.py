"""Settings of a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gatewave.service.quoting import CONFIDENTIAL
from gatewave.service.security.keys import Keys
from gatewave.service.system.devices import Device, KernelMode

OWN_PATHS = frozenset(
    (
        *("activate", "activations", "docs", "livez", "metrics", "openapi.json", "readyz"),
        *("redoc", "static-offline-docs", "v2"),
    )
)
"""First segments of the service's paths. A prefix that begins with one would be ambiguous."""


class Settings(BaseSettings):
    """Settings from ``GATEWAVE_*`` environment variables, read once when the app is created."""

    model_config = SettingsConfigDict(env_prefix="GATEWAVE_", frozen=True)

    artifacts: Path = Field(
        default=Path("artifacts"), description="Folder that `gatewave export` wrote."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose."
    )
    device: Device = Field(
        default="auto",
        description="Device for computing: `cuda` fails at the start if CUDA does not work, "
        "`auto` uses CUDA if it works and the CPU otherwise.",
    )
    kernels: KernelMode = Field(
        default="auto",
        description="Implementation of our operators: `native` fails at the start if the native "
        "kernels cannot be loaded, `function` runs the function bodies of the graphs, "
        "`auto` uses the kernels if they load.",
    )
    kernels_instructions: str = Field(
        default="",
        max_length=32,
        description="Instruction set of the kernels: `avx512`, `avx2`, `x86-64` or `neon`; an "
        "empty value means the best that this processor has.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Compute threads; 0 means the number of available CPUs.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Worker processes that share the port and divide the CPUs.",
    )
    heartbeat_seconds: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="Silence of a worker's event loop after which the worker is killed and "
        "replaced; 0 means never.",
    )
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port for gRPC; None means no gRPC."
    )
    grpc_max_streams: int = Field(
        default=256,
        ge=1,
        description="Maximum number of open gRPC calls on one connection; clients "
        "delay further calls.",
    )
    grpc_idle_seconds: float = Field(
        default=900.0,
        gt=0,
        description="Longest time of a gRPC stream without a message, and of a gRPC connection "
        "without a call.",
    )
    grpc_max_age_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Maximum age of a gRPC connection, after which its calls are finished and "
        "clients reconnect, to other workers or hosts too; None means no limit.",
    )
    grpc_keepalive_seconds: float = Field(
        default=60.0,
        ge=1,
        description="Silence after which a gRPC connection is pinged.",
    )
    grpc_keepalive_timeout_seconds: float = Field(
        default=20.0,
        gt=0,
        description="Longest wait for the answer to such a ping, before the connection is closed.",
    )
    grpc_min_ping_seconds: float = Field(
        default=10.0,
        ge=0,
        description="Shortest time between two pings of a gRPC client without data between them.",
    )
    grpc_max_ping_strikes: int = Field(
        default=2,
        ge=0,
        description="Maximum number of early pings before the connection is closed; 0 means no "
        "limit.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Separate port for /metrics, /livez and /readyz; `port` then has no /metrics. "
        "None means that `port` serves /metrics.",
    )
    metrics_host: str | None = Field(
        default=None,
        description="Address of the port for metrics; None means `host`.",
    )
    repository: Path | None = Field(
        default=None, description="Folder of ONNX models: <name>/<version>/model.onnx."
    )
    repository_mode: Literal["fixed", "poll", "explicit"] = Field(
        default="fixed",
        description="Time at which models are loaded: only at the start (`fixed`); also when "
        "files change (`poll`); or on request of an admin (`explicit`), which needs "
        "an admin key and one worker.",
    )
    repository_poll_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Seconds between two checks of the repository in mode `poll`.",
    )
    max_model_bytes: int = Field(
        default=0,
        ge=0,
        description="Maximum number of bytes of all files of one version of a model in the "
        "repository. "
        "The files are read into memory; while a version is loaded, there are up to "
        "four copies. 0 means a quarter of the memory, divided by `workers`.",
    )
    keys: str = Field(
        default="",
        repr=False,
        description="API keys of callers: comma-separated pairs scope:sha256, as `gatewave key` "
        "prints them; scopes are infer and admin. Without keys, all callers may "
        "infer, and no caller is admin.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of keys, one on each line, in addition to `keys`; it is read at the "
        "start and at SIGHUP. `#` begins a comment.",
    )
    allow_anonymous: bool = Field(
        default=False, description="Whether to listen beyond this machine without keys."
    )
    root_path: str = Field(
        default="",
        pattern=r"^((/[A-Za-z0-9._~-]+)+)?$",
        description="Prefix under which a proxy publishes the service, such as `/gatewave`. "
        "Requests are answered with the prefix and without it, and links have it.",
    )
    published_host: str | None = Field(
        default=None,
        description="Address at which callers reach the port if it is not `host`, as with a "
        "container's published port.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="Certificate chain of the server, in PEM, for HTTP and gRPC."
    )
    tls_key: Path | None = Field(
        default=None, description="Private key of the certificate, in PEM."
    )
    tls_client_ca: Path | None = Field(
        default=None,
        description="Authorities that sign client certificates, in PEM; clients then need a "
        "certificate.",
    )
    traces: str | None = Field(
        default=None,
        description="OTLP/HTTP address that receives OpenTelemetry traces; needs "
        "gatewave[tracing].",
    )
    lanes: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Requests that are computed at the same time; 0 means the number of CPUs.",
    )
    max_queue: int = Field(
        default=256,
        ge=0,
        description="Maximum number of requests that wait for a lane; further requests get 503.",
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="Deadline of a request that sets none."
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Longest time for requests in progress after SIGTERM, including the grace "
        "period.",
    )
    grace_seconds: float = Field(
        default=2.0,
        ge=0,
        description="Time after SIGTERM in which new requests are still accepted, although the "
        "service is not ready, so that load balancers notice; SIGINT has no grace "
        "period.",
    )
    max_memory_bytes: int = Field(
        default=1 << 30,
        ge=1,
        description="Memory limit for bodies and results of all requests in progress.",
    )
    max_connections: int = Field(
        default=0,
        ge=0,
        description="Maximum number of HTTP connections of a process; 0 means the number of file "
        "descriptors. At the limit, the connections that have been idle longest are "
        "closed.",
    )
    client_connections: int = Field(
        default=0,
        ge=0,
        description="Maximum number of HTTP connections of one address (of IPv6, a /64) in each "
        "process; "
        "0 means no limit. A proxy in front of all callers is one address.",
    )
    client_requests_per_second: float = Field(
        default=0,
        ge=0,
        description="Maximum number of requests per second of one client in each process; further "
        "requests get 429. A client is a key or, without keys, an address. 0 means no "
        "limit.",
    )
    client_memory_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Part of `max_memory_bytes` that several requests of one client may hold "
        "together. A client is a key or, without keys, an address. If all callers use "
        "one proxy, set 1.",
    )
    max_output_bytes: int = Field(
        default=1 << 28, ge=1, description="Maximum size of the results of one request."
    )
    arena_bytes: int = Field(
        default=1 << 30,
        ge=1 << 20,
        description="Memory limit of ONNX Runtime for the tensors of all models together.",
    )
    inline_bytes: int = Field(
        default=1 << 18,
        ge=0,
        description="Size up to which requests are answered on the event loop; larger requests "
        "are answered in a thread.",
    )
    max_body_bytes: int = Field(
        default=1 << 26, ge=1, description="Maximum size of a request body."
    )
    max_json_bytes: int = Field(
        default=1 << 23,
        ge=1,
        description="Maximum size of a JSON body; parsing JSON delays other requests, reading "
        "safetensors does not.",
    )
    body_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest time in which a caller sends a body, and longest time in which it "
        "reads no part of an answer.",
    )
    max_elements: int = Field(
        default=1 << 23,
        ge=1,
        description="Maximum number of elements in all tensors of a request together.",
    )
    max_rank: int = Field(
        default=16,
        ge=1,
        le=64,
        description="Maximum number of axes of a tensor, which is the depth of nested lists.",
    )
    max_batch: int = Field(
        default=256,
        ge=1,
        description="Maximum number of evaluations in one request to /activate/batch.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level of log lines."
    )
    access_log: bool = Field(default=True, description="Whether each request is logged.")

    @field_validator("root_path")
    @classmethod
    def _validate_root_path(cls, root_path: str) -> str:
        first = root_path.split("/")[1] if root_path else ""
        if first in OWN_PATHS:
            msg = f"a prefix that does not begin with /{first}, a path of the service"
            raise PydanticCustomError("root_path", "{reason}", {"reason": msg})
        return root_path

    @field_validator("keys")
    @classmethod
    def _validate_keys(cls, keys: str) -> str:
        try:
            Keys.parse(keys)
        except ValueError as error:
            raise PydanticCustomError(CONFIDENTIAL, "{reason}", {"reason": str(error)}) from error
        return keys
