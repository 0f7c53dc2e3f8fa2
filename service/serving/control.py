"""Who loads and unloads models while the service runs."""

from __future__ import annotations

from typing import Protocol


class Control(Protocol):
    """A repository of models, as those see it who speak for callers."""

    @property
    def is_busy(self) -> bool:
        """Return whether its threads still read or open models."""

    async def look(self) -> None:
        """Note the models that are there and were never loaded."""

    async def load(self, name: str) -> None:
        """Load the versions of the model ``name``, or load them again.

        Raises:
            ControlOff: Models are not loaded by request.
            NameUnknown: The repository has no such model.
            ModelRefused: It cannot be served; what was served before still is.
        """

    async def unload(self, name: str) -> None:
        """Serve the model ``name`` no more; what is under way is finished.

        Raises:
            ControlOff: Models are not unloaded by request.
            NameUnknown: No such model is served from the repository.
        """

    async def close(self) -> None:
        """Load nothing any more."""
