"""What can be called over gRPC, and who may call it."""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gatewave.service.grpc import inference_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

UNKNOWN = "unknown"
"""Name of all unknown paths in metrics, traces and logs, because callers may send any number of
them."""

PUBLIC = frozenset(
    {
        f"/{HEALTH.full_name}/Check",
        f"/{HEALTH.full_name}/Watch",
        f"/{SERVICE.full_name}/ServerLive",
        f"/{SERVICE.full_name}/ServerReady",
    }
)
"""What needs no key: whoever starts and watches the process asks it, and it tells nothing else."""

ADMIN = frozenset(
    {
        f"/{SERVICE.full_name}/RepositoryModelLoad",
        f"/{SERVICE.full_name}/RepositoryModelUnload",
    }
)
