"""Errors of the service; `gatewave.service.http.problems` maps them to HTTP.

* ServiceError                the service cannot start, or cannot answer
  - SettingsInvalid           settings contradict each other, or the machine
  - DeviceUnavailable         the wanted execution provider does not work
  - KernelsUnavailable        the native kernels are demanded, and cannot be had
  - ArtifactInvalid           a file in the artifacts folder is not what it should be
  - Overloaded                there is no room for the request now; later there may be
    - ClientLimited           one client exceeds its limit of connections or requests
  - DeadlineExceeded          the request did not start, or end, before its deadline
  - ModelNotReady             a model is known, and does not answer now
  - ModelFailed               a model could not compute what it was given
  - ModelRefused              a model in the repository cannot be served
  - ControlOff                nobody may load or unload models while the service runs
  - KeyMissing                the caller has to say who it is
  - ScopeMissing              the caller may not do that
  - RequestInvalid            what the caller sent is wrong; it names the fields
    - BodyMalformed           the body is not JSON, or not a safetensors file
    - MediaTypeUnsupported    the body is of another type than can be read
    - MediaTypeUnacceptable   the answer is wanted in a type that cannot be written
    - NameUnknown             no activation, artifact or plot has that name
    - LimitExceeded           more elements, axes or items than are allowed
    - BodyTooLong             more bytes than are allowed
    - BodyLate                the body did not come in time
    - UrlTooLong              its URL has more bytes than are allowed
    - HeadTooLong             its headers have, or are more than are allowed
    - HttpMalformed           what came is not HTTP
    - HttpUnsupported         the request uses a part of HTTP that is not supported
    - HttpVersionUnsupported  the version of HTTP is not supported
"""

from __future__ import annotations

import itertools
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ServiceError(Exception):
    """The root of the tree; ``str()`` of it is for people."""


class SettingsInvalid(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


class DeviceUnavailable(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


class KernelsUnavailable(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


class ArtifactInvalid(ServiceError):  # noqa: N818
    pass


class Overloaded(ServiceError):  # noqa: N818
    """There is no room for the request now.

    Attributes:
        reason: What there is too little of, in one word, for the count of rejections.
        retry_after: When to try again, in whole seconds.
    """

    def __init__(self, reason: str, detail: str, retry_after: int = 1) -> None:
        super().__init__(f"the service is busy: {detail}")
        self.reason = reason
        self.retry_after = retry_after


class ClientLimited(Overloaded):
    """One client exceeds the limit of connections or of requests for each client."""

    def __init__(self, reason: str, detail: str, retry_after: int = 1) -> None:
        super().__init__(reason, detail, retry_after)
        self.args = (detail,)


class DeadlineExceeded(ServiceError):  # noqa: N818
    pass


class ModelNotReady(ServiceError):  # noqa: N818
    """A model is known, and does not answer now.

    Attributes:
        is_loading: True while the model is being loaded, so that a retry soon is useful.
    """

    def __init__(self, detail: str, *, is_loading: bool = False) -> None:
        super().__init__(detail)
        self.is_loading = is_loading


class ModelFailed(ServiceError):  # noqa: N818
    pass


class ModelRefused(ServiceError):  # noqa: N818
    pass


class ControlOff(ServiceError):  # noqa: N818
    pass


class KeyMissing(ServiceError):  # noqa: N818
    pass


class ScopeMissing(ServiceError):  # noqa: N818
    pass


def clear_locals(error: BaseException) -> None:
    """Clear the local variables of the finished frames through which ``error`` was raised.

    A traceback keeps its frames alive, and frames keep bodies, documents and tensors alive. Where
    a frame also refers to the future that holds the error, the frame is part of a reference cycle.
    Only the cyclic garbage collector frees a cycle, and it may not run for hours: dictionaries of
    numbers do not count towards its threshold. The traceback keeps its lines, for the log.

    Every error that crosses from a thread or a future to the event loop passes through here.
    """
    for each in _chain(error):
        traceback.clear_frames(each.__traceback__)


def strip(error: BaseException) -> None:
    """Remove the traceback and the causes of ``error``, which is answered and never logged."""
    error.__traceback__ = error.__cause__ = error.__context__ = None


def _chain(error: BaseException) -> list[BaseException]:
    """Return ``error``, its causes and contexts."""
    found: dict[int, BaseException] = {}
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in found:
            found[id(each)] = each
            left += [each.__cause__, each.__context__]
    return list(found.values())


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

    def __init__(self, *errors: FieldError, count: int | None = None) -> None:
        """Errors to report, of ``count`` in all."""
        self.errors = errors[:MAX_ERRORS]
        more = (len(errors) if count is None else count) - len(self.errors)
        said = [*map(str, self.errors), *([f"and {more} more"] if more else [])]
        super().__init__("; ".join(said))

    @classmethod
    def at(cls, field: str, expected: str, got: object) -> RequestInvalid:
        return cls(FieldError(_cut(field), expected, quoted(got)))


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


class BodyLate(LimitExceeded):
    pass


class UrlTooLong(LimitExceeded):
    pass


class HeadTooLong(LimitExceeded):
    pass


class HttpMalformed(RequestInvalid):
    pass


class HttpUnsupported(RequestInvalid):
    pass


class HttpVersionUnsupported(RequestInvalid):
    pass


class Words(str):
    """What came, in words of ours; a value of the caller's is quoted as JSON instead."""

    __slots__ = ()


NOTHING = Words("nothing")
LONGEST_QUOTE = 80
DEEPEST_QUOTE = 8
MAX_ERRORS = 16


OMITTED = " … "


def abridged(text: str, longest: int) -> str:
    """Return ``text``, without its middle if it is longer: a reason is at the end more often."""
    if len(text) <= longest:
        return text
    half = (longest - len(OMITTED)) // 2
    return f"{text[:half]}{OMITTED}{text[-half:]}"


def quoted(value: object) -> str:
    """What came, as messages quote it: in JSON, and never longer than a line."""
    if isinstance(value, Words):
        return value
    return _cut("".join(itertools.islice(_tokens(value, DEEPEST_QUOTE), LONGEST_QUOTE)))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def _tokens(value: object, depth: int) -> Iterator[str]:
    """JSON of ``value``, piece by piece, so that what is not quoted is not written either."""
    if isinstance(value, list | tuple):
        yield "["
        for index, item in enumerate(value):
            yield ", " if index else ""
            yield from _tokens(item, depth - 1) if depth else ("…",)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield f"{', ' if index else ''}{json.dumps(str(key)[:LONGEST_QUOTE])}: "
            yield from _tokens(item, depth - 1) if depth else ("…",)
        yield "}"
    else:
        plain = value[:LONGEST_QUOTE] if isinstance(value, str) else value
        yield json.dumps(plain, default=repr, ensure_ascii=False)


CONFIDENTIAL = "confidential"
"""The type of pydantic's errors about values that are not to be repeated."""

UNQUOTED = {"missing": NOTHING, CONFIDENTIAL: Words("what is not repeated here")}


def from_pydantic(errors: Sequence[Mapping[str, Any]]) -> RequestInvalid:
    """What a model refused, with the place, the expectation and the value of each error."""
    return RequestInvalid(
        *(
            FieldError(
                field=_cut(".".join(map(str, error["loc"])) or "body"),
                expected=_expected(error),
                got=UNQUOTED.get(error["type"]) or quoted(error["input"]),
            )
            for error in errors[:MAX_ERRORS]
        ),
        count=len(errors),
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
