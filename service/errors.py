"""What can go wrong, as the domain sees it; `service.problems` says what HTTP makes of it.

* ServiceError                the service cannot start, or cannot answer
  - DeviceUnavailable         the wanted execution provider does not work
  - ArtifactInvalid           a file in the artifacts folder is not what it should be
  - RequestInvalid            what the caller sent is wrong; it names the fields
    - BodyMalformed           the body is not JSON, or not a safetensors file
    - MediaTypeUnsupported    the body is of another type than can be read
    - MediaTypeUnacceptable   the answer is wanted in a type that cannot be written
    - NameUnknown             no activation, artifact or plot has that name
    - LimitExceeded           more elements, axes or items than are allowed
    - BodyTooLong             more bytes than are allowed
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson


class ServiceError(Exception):
    """The root of the tree; ``str()`` of it is for people."""


class DeviceUnavailable(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


class ArtifactInvalid(ServiceError):  # noqa: N818
    pass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong.

    Attributes:
        field: Where, as a path: ``inputs.a[3]``.
        expected: What is right there.
        got: What came.
    """

    field: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got}"


class RequestInvalid(ServiceError):  # noqa: N818
    """What the caller sent is wrong."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors

    @classmethod
    def at(cls, field: str, expected: str, got: object) -> RequestInvalid:
        return cls(FieldError(field, expected, quoted(got)))


class BodyMalformed(RequestInvalid):
    pass


class MediaTypeUnsupported(RequestInvalid):
    pass


class MediaTypeUnacceptable(RequestInvalid):
    pass


class NameUnknown(RequestInvalid):
    pass


class LimitExceeded(RequestInvalid):
    pass


class BodyTooLong(LimitExceeded):
    pass


class Words(str):
    """What came, in words of ours; a value of the caller's is quoted as JSON instead."""

    __slots__ = ()


NOTHING = Words("nothing")
LONGEST_QUOTE = 80


def quoted(value: object) -> str:
    """What came, as messages quote it: in JSON, and never longer than a line."""
    if isinstance(value, Words):
        return value
    text = orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def from_pydantic(errors: Iterable[Mapping[str, Any]]) -> RequestInvalid:
    """What a model refused, with the place, the expectation and the value of each error."""
    return RequestInvalid(
        *(
            FieldError(
                field=".".join(map(str, error["loc"])) or "body",
                expected=_expected(error),
                got=NOTHING if error["type"] == "missing" else quoted(error["input"]),
            )
            for error in errors
        )
    )


def _expected(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "a value: the field is required"
        case "extra_forbidden":
            return "no field of this name"
        case "model_type" | "dict_type":
            return "an object"
        case _:
            message: str = error["msg"]
            return message.removeprefix("Input should be ")
