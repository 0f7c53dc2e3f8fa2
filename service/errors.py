"""Errors of the service, and their answers over HTTP, the Open Inference Protocol and gRPC.

* ServiceError                a failure of the service itself: logged, and answered without details
  x SettingsInvalid           settings contradict each other or the machine
  x DeviceUnavailable         the requested execution provider does not work
  x KernelsUnavailable        native kernels are required and cannot be loaded
  x ArtifactInvalid           a file in the artifacts folder is damaged or missing
  x WorkersFailed             worker processes do not start (`processes.restarts`)
  x PortUnavailable           a port is taken (`system.sockets`)
  x Overloaded                no capacity for the request at this moment
    x ClientLimited           one client exceeds its limit of connections or requests
  x DeadlineExceeded          the request did not start or end before its deadline
  x ModelNotReady             the model is known, and cannot answer at this moment
  x ModelFailed               the model could not compute the inputs
  x ModelRefused              a model in the repository cannot be served
    x FilesChanged            its files changed while they were read (`repository.files`)
    x TrialUnfinished         its trial was stopped (`repository.trial.process`)
  x ControlOff                loading and unloading by request is disabled
  x KeyMissing                the request has no valid API key
  x ScopeMissing              the API key does not allow the request
  x RequestInvalid            the request is wrong; the error names its fields
    x BodyMalformed           the body is not JSON, or not a safetensors file
    x MediaTypeUnsupported    the type of the body cannot be read
    x MediaTypeUnacceptable   the accepted types cannot be written
    x NameUnknown             no activation, model, artifact or plot has the name
    x LimitExceeded           more elements, axes or items than allowed
      x BodyTooLong           more bytes than allowed
      x BodyLate              the body did not arrive in time
      x UrlTooLong            the URL has more bytes than allowed
      x HeadTooLong           the headers are more, or longer, than allowed
    x HttpMalformed           the bytes are not HTTP
    x HttpUnsupported         the request uses an unsupported part of HTTP, or of gRPC
    x HttpVersionUnsupported  the version of HTTP is not supported

Each class declares its answers in one place, or inherits all of them. The modules
`gatewave.service.http.problems` and `gatewave.service.grpc.statuses` read them there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Self

from gatewave.service.quoting import cut, quoted

MAX_ERRORS = 16
"""Most wrong fields that one error lists; the others are counted."""


class ServiceError(Exception):
    """Root of the tree; its text is written for people.

    Attributes:
        http_status: Status over HTTP.
        oip_status: Status over HTTP below /v2. The Open Inference Protocol distinguishes fewer
            errors, and 400 stands for the others.
        grpc_code: Name of the status code over gRPC.
        slug: Last part of the problem type, ``urn:gatewave:problem:SLUG`` (RFC 9457).
        title: Title of the problem type.
        reason: Reason by which the rejection is counted; None if it is not counted.
        retry_after: Seconds after which a retry may succeed; None if no retry can.
        is_retried: Whether gRPC clients with a retry policy are told to retry by themselves.
    """

    http_status = HTTPStatus.INTERNAL_SERVER_ERROR
    oip_status = HTTPStatus.INTERNAL_SERVER_ERROR
    grpc_code = "INTERNAL"
    slug = "internal"
    title = "Internal server error"
    reason: str | None = None
    retry_after: int | None = None
    is_retried: bool = False

    @property
    def is_internal(self) -> bool:
        """Return whether callers learn only that the service failed, and not why."""
        return self.http_status == HTTPStatus.INTERNAL_SERVER_ERROR

    def problem(self) -> dict[str, Any]:
        """Return the problem document of the error (RFC 9457)."""
        return problem_document(self.http_status, self.slug, self.title, str(self))


def problem_document(
    status: int, slug: str, title: str, detail: str, **extensions: object
) -> dict[str, Any]:
    """Return a problem document (RFC 9457)."""
    kind = f"urn:gatewave:problem:{slug}"
    return {"type": kind, "title": title, "status": int(status), "detail": detail, **extensions}


def descendants(error: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """Yield ``error`` and its subclasses, as far as their modules are imported."""
    yield error
    for child in error.__subclasses__():
        yield from descendants(child)


class SettingsInvalid(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


class DeviceUnavailable(ServiceError):  # noqa: N818
    pass


class KernelsUnavailable(ServiceError):  # noqa: N818
    pass


class ArtifactInvalid(ServiceError):  # noqa: N818
    pass


class Overloaded(ServiceError):  # noqa: N818
    """No capacity for the request at this moment.

    Args:
        reason: The exhausted resource, in one word; it labels the count of rejections.
        detail: The exhausted resource, for people.
        retry_after: Seconds after which a retry may succeed.
    """

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    oip_status = HTTPStatus.SERVICE_UNAVAILABLE
    grpc_code = "UNAVAILABLE"
    slug = "overloaded"
    title = "Service overloaded"
    reason: str
    retry_after: int
    is_retried = True

    def __init__(self, reason: str, detail: str, retry_after: int = 1) -> None:
        super().__init__(f"the service is busy: {detail}")
        self.reason = reason
        self.retry_after = retry_after


class ClientLimited(Overloaded):
    """One client exceeds its limit of connections or requests."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    oip_status = HTTPStatus.TOO_MANY_REQUESTS
    grpc_code = "RESOURCE_EXHAUSTED"
    slug = "client-limited"
    title = "Client limit exceeded"

    def __init__(self, reason: str, detail: str, retry_after: int = 1) -> None:
        super().__init__(reason, detail, retry_after)
        self.args = (detail,)


class DeadlineExceeded(ServiceError):  # noqa: N818
    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    oip_status = HTTPStatus.SERVICE_UNAVAILABLE
    grpc_code = "DEADLINE_EXCEEDED"
    slug = "deadline-exceeded"
    title = "Deadline exceeded"
    reason = "deadline"
    retry_after = 1


class ModelNotReady(ServiceError):  # noqa: N818
    """The model is known, and cannot answer at this moment.

    Args:
        detail: The reason, for people.
        is_loading: Whether the model is being loaded, which makes a retry useful.
    """

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    oip_status = HTTPStatus.SERVICE_UNAVAILABLE
    grpc_code = "UNAVAILABLE"
    slug = "model-not-ready"
    title = "Model not ready"
    reason = "not_ready"
    retry_after = 1

    def __init__(self, detail: str, *, is_loading: bool = False) -> None:
        super().__init__(detail)
        self.is_retried = is_loading


class ModelFailed(ServiceError):  # noqa: N818
    http_status = HTTPStatus.UNPROCESSABLE_ENTITY
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "INVALID_ARGUMENT"
    slug = "model-failed"
    title = "Model computation failed"


class ModelRefused(ServiceError):  # noqa: N818
    http_status = HTTPStatus.BAD_REQUEST
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "INVALID_ARGUMENT"
    slug = "model-refused"
    title = "Model rejected"


class ControlOff(ServiceError):  # noqa: N818
    http_status = HTTPStatus.NOT_IMPLEMENTED
    oip_status = HTTPStatus.NOT_IMPLEMENTED
    grpc_code = "UNIMPLEMENTED"
    slug = "control-off"
    title = "Model control disabled"


class KeyMissing(ServiceError):  # noqa: N818
    http_status = HTTPStatus.UNAUTHORIZED
    oip_status = HTTPStatus.UNAUTHORIZED
    grpc_code = "UNAUTHENTICATED"
    slug = "key-missing"
    title = "Authentication required"
    reason = "key_missing"


class ScopeMissing(ServiceError):  # noqa: N818
    http_status = HTTPStatus.FORBIDDEN
    oip_status = HTTPStatus.FORBIDDEN
    grpc_code = "PERMISSION_DENIED"
    slug = "scope-missing"
    title = "Permission denied"
    reason = "scope_missing"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request.

    Attributes:
        field: Path of the field: ``inputs.a[3]``.
        expected: Description of the accepted values.
        got: Description of the received value.
    """

    field: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got}"


class RequestInvalid(ServiceError):  # noqa: N818
    """The request is wrong.

    Attributes:
        errors: The wrong fields, at most `MAX_ERRORS`.
    """

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "INVALID_ARGUMENT"
    slug = "invalid-request"
    title = "Invalid request"

    def __init__(self, *errors: FieldError, count: int | None = None) -> None:
        """List ``errors``, out of ``count`` in all."""
        self.errors = errors[:MAX_ERRORS]
        more = (len(errors) if count is None else count) - len(self.errors)
        said = [*map(str, self.errors), *([f"and {more} more"] if more else [])]
        super().__init__("; ".join(said))

    @classmethod
    def at(cls, field: str, expected: str, got: object) -> Self:
        """Return an error about one field; ``got`` is the received value, which is quoted."""
        return cls(FieldError(cut(field), expected, quoted(got)))

    def problem(self) -> dict[str, Any]:
        return super().problem() | {"errors": [asdict(error) for error in self.errors]}


class BodyMalformed(RequestInvalid):
    http_status = HTTPStatus.BAD_REQUEST
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "INVALID_ARGUMENT"
    slug = "malformed-body"
    title = "Malformed request body"


class MediaTypeUnsupported(RequestInvalid):
    http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "UNIMPLEMENTED"
    slug = "unsupported-media-type"
    title = "Unsupported media type"


class MediaTypeUnacceptable(RequestInvalid):
    http_status = HTTPStatus.NOT_ACCEPTABLE
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "UNIMPLEMENTED"
    slug = "not-acceptable"
    title = "No acceptable media type"


class NameUnknown(RequestInvalid):
    http_status = HTTPStatus.NOT_FOUND
    oip_status = HTTPStatus.NOT_FOUND
    grpc_code = "NOT_FOUND"
    slug = "unknown-name"
    title = "Unknown name"


class LimitExceeded(RequestInvalid):
    http_status = HTTPStatus.UNPROCESSABLE_ENTITY
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "INVALID_ARGUMENT"
    slug = "limit-exceeded"
    title = "Limit exceeded"
    reason = "limit"


class BodyTooLong(LimitExceeded):
    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    oip_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    grpc_code = "RESOURCE_EXHAUSTED"
    slug = "body-too-long"
    title = "Request body too long"
    reason = "body_too_long"


class BodyLate(LimitExceeded):
    http_status = HTTPStatus.REQUEST_TIMEOUT
    oip_status = HTTPStatus.REQUEST_TIMEOUT
    grpc_code = "DEADLINE_EXCEEDED"
    slug = "body-late"
    title = "Request body timed out"
    reason = "body_late"


class UrlTooLong(LimitExceeded):
    http_status = HTTPStatus.REQUEST_URI_TOO_LONG
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "RESOURCE_EXHAUSTED"
    slug = "url-too-long"
    title = "URL too long"
    reason = "head_too_long"


class HeadTooLong(LimitExceeded):
    http_status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "RESOURCE_EXHAUSTED"
    slug = "head-too-long"
    title = "Request headers too large"
    reason = "head_too_long"


class HttpMalformed(RequestInvalid):
    http_status = HTTPStatus.BAD_REQUEST
    oip_status = HTTPStatus.BAD_REQUEST
    grpc_code = "INVALID_ARGUMENT"
    slug = "malformed-http"
    title = "Malformed HTTP request"


class HttpUnsupported(RequestInvalid):
    http_status = HTTPStatus.NOT_IMPLEMENTED
    oip_status = HTTPStatus.NOT_IMPLEMENTED
    grpc_code = "UNIMPLEMENTED"
    slug = "unsupported-http"
    title = "Unsupported HTTP feature"


class HttpVersionUnsupported(RequestInvalid):
    http_status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    oip_status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    grpc_code = "UNIMPLEMENTED"
    slug = "unsupported-http-version"
    title = "Unsupported HTTP version"
