"""Interface of a repository that loads and unloads models while the service runs."""

from __future__ import annotations

from typing import Protocol


class RepositoryControl(Protocol):
    """Repository operations that protocol handlers may call."""

    @property
    def is_busy(self) -> bool:
        """Return True if its threads still read or open models."""

    async def discover(self) -> None:
        """Register the models that exist in the repository and were never loaded."""

    async def load(self, name: str) -> None:
        """Load or reload the versions of the model ``name``.

        Raises:
            ControlOff: Models are not loaded by request.
            NameUnknown: The repository has no such model.
            ModelRefused: It cannot be served; versions that were served before still are.
        """

    async def unload(self, name: str) -> None:
        """Unload the model ``name``; requests in progress are finished.

        Raises:
            ControlOff: Models are not unloaded by request.
            NameUnknown: No such model is served from the repository.
        """

    async def close(self) -> None:
        """End all loading."""
