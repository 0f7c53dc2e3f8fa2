"""Registry of the models that are served, by name and version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gatewave.service.errors import ModelNotReady, NameUnknown, ServiceError
from gatewave.service.serving.model import Model

READY, UNAVAILABLE, LOADING = "READY", "UNAVAILABLE", "LOADING"

WHOLE = ""
"""Key of the state of a model as a whole, in place of a version."""


@dataclass(frozen=True, slots=True)
class VersionState:
    """State of one version, in the words of the Open Inference Protocol.

    Attributes:
        state: ``READY``, ``UNAVAILABLE``, ``LOADING`` or ``UNLOADING``.
        reason: Cause of the state. For a ready version, a later failure or a restriction.
    """

    state: str
    reason: str = ""


@dataclass(slots=True)
class ModelVersions:
    """Versions of one model: those that are ready, and the states of all.

    Attributes:
        states: States by version; errors of the model as a whole are under ``WHOLE``.
        note: A note of the index on each version.
    """

    ready: dict[str, Model] = field(default_factory=dict)
    states: dict[str, VersionState] = field(default_factory=dict)
    note: str = ""

    @property
    def latest(self) -> Model | None:
        if len(self.ready) > 1:
            return self.ready[max(self.ready, key=int)]
        return next(iter(self.ready.values()), None)

    def absence(self, name: str, version: str) -> ServiceError:
        """Return the error for a request to ``version``, or to any version, that is not ready.

        A version is unknown only if the model has others: a model that is unloaded, or about to be
        loaded, may have it soon.
        """
        state = self.states.get(version) or self.states.get(WHOLE)
        others = self.states.keys() - {WHOLE}
        if version and version not in others and (others or state is None):
            known = ", ".join(sorted(others, key=int)) or "none"
            return NameUnknown.at("version", f"a version of {name}: {known}", version)
        if state is None and LOADING in {other.state for other in self.states.values()}:
            state = VersionState(LOADING)
        if state is None and others:
            state = self.states[max(others, key=int)]
        why = state.reason or state.state.lower() if state else "no version of it is loaded"
        is_loading = state is not None and state.state == LOADING
        return ModelNotReady(f"model {name} is not ready: {why}", is_loading=is_loading)


class Registry:
    """Names and versions of models. It is changed and read on the event loop only."""

    def __init__(self, models: Sequence[Model] = ()) -> None:
        self.models: dict[str, ModelVersions] = {}
        for model in models:
            self.put(model)

    def __iter__(self) -> Iterator[Model]:
        for versions in self.models.values():
            yield from versions.ready.values()

    def put(self, model: Model, reason: str = "") -> Model | None:
        """Serve ``model``; return the model that had its name and version before, if any."""
        versions = self.models.setdefault(model.name, ModelVersions())
        before = versions.ready.get(model.version)
        versions.ready[model.version] = model
        versions.states[model.version] = VersionState(READY, reason)
        return before

    def mark(self, name: str, version: str, state: str, reason: str = "") -> None:
        """Set the state of a version; a ready version stays ready, and gets the reason."""
        versions = self.models.setdefault(name, ModelVersions())
        versions.states[version] = VersionState(
            READY if version in versions.ready else state, reason
        )

    def annotate(self, name: str, note: str) -> None:
        """Set the note of the index on each version of a known model; an empty note removes it."""
        self.models[name].note = note

    def suspend(self, model: Model, reason: str) -> bool:
        """Suspend ``model``; return False if it was not served."""
        versions = self.models.get(model.name)
        if versions is None or versions.ready.get(model.version) is not model:
            return False
        del versions.ready[model.version]
        versions.states[model.version] = VersionState(UNAVAILABLE, reason)
        return True

    def remove(self, name: str, version: str) -> Model | None:
        """Remove a version; return its model, if it was ready."""
        versions = self.models.get(name)
        if versions is None:
            return None
        versions.states.pop(version, None)
        model = versions.ready.pop(version, None)
        if model is not None:
            model.meter.remove()
        if not versions.states:
            del self.models[name]
        return model

    def get(self, name: str, version: str = "") -> Model:
        """Return the model ``name`` in ``version``, or in its highest version.

        Raises:
            NameUnknown: There is no such model, or no such version of it.
            ModelNotReady: It exists, and is not ready.
        """
        versions = self.models.get(name)
        if versions is None:
            raise NameUnknown.at("model", "a model that is served", name)
        found = versions.ready.get(version) if version else versions.latest
        if found is not None:
            return found
        raise versions.absence(name, version)

    def loading(self) -> list[str]:
        """Return the names of models with a version that is being loaded."""
        return [
            name
            for name, versions in self.models.items()
            if any(state.state == LOADING for state in versions.states.values())
        ]

    def index(self) -> Mapping[str, Mapping[str, VersionState]]:
        """Return the states of all versions of all models."""
        return {name: dict(versions.states) for name, versions in self.models.items()}
