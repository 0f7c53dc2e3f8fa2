"""Services and paths that can be called over gRPC, and the paths with special rights."""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gatewave.service.grpc import inference_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

UNKNOWN = "unknown"
"""Name of all unknown paths in metrics, traces and logs. Callers can make up any number of paths:
2,000 of them once made the text of the metrics 13 MB long."""

PUBLIC = frozenset(
    {
        f"/{HEALTH.full_name}/Check",
        f"/{HEALTH.full_name}/Watch",
        f"/{SERVICE.full_name}/ServerLive",
        f"/{SERVICE.full_name}/ServerReady",
    }
)
"""Paths that need no key. The systems that start and monitor the process call them, and they tell
only whether it is live and ready."""

ADMIN = frozenset(
    {
        f"/{SERVICE.full_name}/RepositoryModelLoad",
        f"/{SERVICE.full_name}/RepositoryModelUnload",
    }
)
"""Paths that need a key with the admin right."""
