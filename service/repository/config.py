"""``config.yaml``: what the operator says of one model; all of it may be left out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from gatewave.service.codecs.validation import from_pydantic
from gatewave.service.errors import ModelRefused
from gatewave.service.repository import strict_yaml
from gatewave.service.serving.model import Batching

NAME = "config.yaml"
LONGEST = 1 << 16
MAX_ERRORS = 5
"""Errors of one file that are reported; a list may have thousands."""
AUTO_ROWS = 32
"""The most rows in one run, unless the operator says."""

Count = Annotated[int, Field(ge=1, le=1 << 20)]


class Closed(BaseModel):
    """Nothing but the fields that are named, and nothing but their types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _refused(kind: str, expected: str) -> PydanticCustomError:
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
    raise _refused("versions", "`latest`, `all`, {latest: N}, or a list of versions")


def _batching(given: Any) -> Any:
    # YAML 1.1 reads the word `off` as false.
    if given is False or given == "off":
        return {"mode": "off"}
    if given == "auto":
        return {"mode": "auto"}
    if isinstance(given, dict) and "mode" not in given:
        return {**given, "mode": "on"}
    raise _refused("batching", "`off`, `auto`, or {max_size, max_delay_microseconds}")


def _warmup(given: Any) -> Any:
    if given is False or given == "off":
        return None
    if isinstance(given, dict):
        return given
    raise _refused("warmup", "`off`, or a shape for each input")


def _isolation(given: Any) -> Any:
    # YAML reads the word `null` and an empty value as None.
    return "none" if given is None else given


class Versions(Closed):
    """Which of the versions in the folder are served: by default the highest.

    Attributes:
        latest: So many, the highest; none means all of them.
        only: These.
    """

    latest: Count | None = None
    only: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, strict=False)

    def among(self, present: list[str]) -> list[str]:
        """Those that are wanted, of those that are there, from the lowest."""
        ordered = sorted(present, key=int)
        if self.only is not None:
            return [version for version in ordered if int(version) in self.only]
        return ordered[-self.latest :] if self.latest else ordered


class Rows(Closed):
    """Whether requests are computed together, and how many rows at a time.

    Attributes:
        mode: ``auto``, the default, means where a measurement says that it pays.
    """

    mode: Literal["off", "auto", "on"] = "auto"
    max_size: Annotated[int, Field(ge=2, le=1 << 16)] = AUTO_ROWS
    max_delay_microseconds: Annotated[int, Field(ge=0, le=10**7)] = 0

    @property
    def batching(self) -> Batching | None:
        """What is wanted, if it can be had."""
        if self.mode == "off":
            return None
        return Batching(self.max_size, self.max_delay_microseconds / 1e6)


Shape = Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 31)], ...], Field(strict=False)]


class Config(Closed):
    """Configuration of one model.

    Attributes:
        warmup: Shapes of the inputs for the trial; sizes that neither it nor the graph gives are
            raised from 1 until the model runs. None means that it is not run before it is served.
        load_at_start: Whether mode ``explicit`` loads the model at the start, or only on request.
        isolation: Whether the model is computed in processes of its own; ``auto``, the default,
            means only if its graph has operators that may end or block their process.
        instances: The most concurrent runs; for an isolated model, the number of its processes.
    """

    versions: Annotated[Versions, BeforeValidator(_versions)] = Versions(latest=1)
    batching: Annotated[Rows, BeforeValidator(_batching)] = Rows()
    warmup: Annotated[dict[str, Shape] | None, BeforeValidator(_warmup)] = Field(
        default_factory=dict
    )
    load_at_start: bool = True
    isolation: Annotated[Literal["auto", "process", "none"], BeforeValidator(_isolation)] = "auto"
    instances: Annotated[int, Field(ge=1, le=1024)] | None = None


def parsed(text: str) -> Config:
    """The configuration that ``text`` is.

    Raises:
        ModelRefused: It is no YAML, or says what it may not; the error names the field.
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
