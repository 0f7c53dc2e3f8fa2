"""Configuration of one model, ``config.yaml``; all fields are optional."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from gatewave.service.codecs.validation import from_pydantic
from gatewave.service.errors import ModelRefused
from gatewave.service.repository import strict_yaml
from gatewave.service.serving.model import Batching

NAME = "config.yaml"
MAX_BYTES = 1 << 16
MAX_ERRORS = 5
"""Number of errors of one file that are reported; a list may have thousands."""
DEFAULT_ROWS = 32
"""Largest number of rows in one run, unless the operator sets another."""

Count = Annotated[int, Field(ge=1, le=1 << 20)]


class StrictModel(BaseModel):
    """Base of the configuration: unknown fields and conversions between types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _error(kind: str, expected: str) -> PydanticCustomError:
    return PydanticCustomError(kind, expected)


def _versions(given: Any) -> Any:
    if given == "latest":
        return {"latest": 1}
    if given == "all":
        return {}
    if isinstance(given, list):
        return {"only": given}
    if isinstance(given, dict) and set(given) == {"latest"} and given["latest"] is not None:
        return given
    raise _error("versions", "`latest`, `all`, {latest: N}, or a list of versions")


def _batching(given: Any) -> Any:
    # YAML 1.1 reads the word `off` as false.
    if given is False or given == "off":
        return {"mode": "off"}
    if given == "auto":
        return {"mode": "auto"}
    if isinstance(given, dict) and "mode" not in given:
        return {**given, "mode": "on"}
    raise _error("batching", "`off`, `auto`, or {max_size, max_delay_microseconds}")


def _warmup(given: Any) -> Any:
    if given is False or given == "off":
        return None
    if isinstance(given, dict):
        return given
    raise _error("warmup", "`off`, or a shape for each input")


def _isolation(given: Any) -> Any:
    # YAML reads the word `null` and an empty value as None.
    return "none" if given is None else given


class VersionPolicy(StrictModel):
    """Choice of the versions to serve: by default the highest.

    Attributes:
        latest: The number of highest versions to serve; None means all.
        only: The versions to serve, instead.
    """

    latest: Count | None = None
    only: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, strict=False)

    def choose(self, present: list[str]) -> list[str]:
        """Return the versions of ``present`` to serve, in ascending order."""
        ordered = sorted(present, key=int)
        if self.only is not None:
            return [version for version in ordered if int(version) in self.only]
        return ordered[-self.latest :] if self.latest else ordered


class BatchingConfig(StrictModel):
    """Batching of requests: its mode, and its limits.

    Attributes:
        mode: ``auto``, the default, batches if that is safe and was measured to save time; ``on``
            batches if that is safe.
        max_size: The largest number of rows in one run.
    """

    mode: Literal["off", "auto", "on"] = "auto"
    max_size: Annotated[int, Field(ge=2, le=1 << 16)] = DEFAULT_ROWS
    max_delay_microseconds: Annotated[int, Field(ge=0, le=10**7)] = 0

    @property
    def batching(self) -> Batching | None:
        """Return the requested batching, or None if it is off."""
        if self.mode == "off":
            return None
        return Batching(self.max_size, self.max_delay_microseconds / 1e6)


Shape = Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 31)], ...], Field(strict=False)]


class Config(StrictModel):
    """Configuration of one model.

    Attributes:
        warmup: Shapes of the inputs for the trial; sizes that neither it nor the graph gives are
            raised from 1 until the model runs. None: the model is not run before it is served.
        load_at_start: Whether mode ``explicit`` loads the model at the start, or only on request.
        isolation: Whether the model is computed in processes of its own; ``auto``, the default,
            means only if its graph has operators that may end or block their process.
        instances: The largest number of concurrent runs; for an isolated model, the number of its
            processes.
    """

    versions: Annotated[VersionPolicy, BeforeValidator(_versions)] = VersionPolicy(latest=1)
    batching: Annotated[BatchingConfig, BeforeValidator(_batching)] = BatchingConfig()
    warmup: Annotated[dict[str, Shape] | None, BeforeValidator(_warmup)] = Field(
        default_factory=dict
    )
    load_at_start: bool = True
    isolation: Annotated[Literal["auto", "process", "none"], BeforeValidator(_isolation)] = "auto"
    instances: Annotated[int, Field(ge=1, le=1024)] | None = None


def parse(text: str) -> Config:
    """Return the configuration in ``text``.

    Raises:
        ModelRefused: It is not YAML, or has an invalid field, which the error names.
    """
    try:
        document = strict_yaml.load(text)
    except strict_yaml.StrictYAMLError as error:
        raise ModelRefused(f"{NAME}: expected YAML: {error}") from error
    try:
        return Config.model_validate({} if document is None else document)
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MAX_ERRORS]
        # A field's name comes from the file, and may contain line breaks.
        why = " ".join(str(from_pydantic(errors)).split())
        raise ModelRefused(f"{NAME}: {why}") from error
