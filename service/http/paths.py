"""Paths with rules of their own, and the scope key of a request's route."""

from __future__ import annotations

OIP = "/v2"
"""Prefix of the Open Inference Protocol, which defines its own error answers."""

PUBLIC = frozenset({"/livez", "/readyz", f"{OIP}/health/live", f"{OIP}/health/ready"})
"""Paths that need no key: orchestrators ask them, and they reveal only the state of the process."""

ADMIN = f"{OIP}/repository/models/"
"""Prefix of the paths that load and unload models."""

ROUTE = "gatewave.route"
"""Key of the scope that holds the route's template, for requests that pass FastAPI's router."""


def is_oip(path: str) -> bool:
    """Return whether ``path`` belongs to the Open Inference Protocol."""
    return path == OIP or path.startswith(f"{OIP}/")
