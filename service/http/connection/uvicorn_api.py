"""Check that the installed uvicorn has the attributes on which `Connection` relies.

They are no public interface of uvicorn: any of its releases may change them.
"""

from __future__ import annotations

from importlib.metadata import version
from types import FunctionType

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

REQUIRED: dict[type, frozenset[str]] = {
    HttpToolsProtocol: frozenset(
        (
            "connection_made",
            "connection_lost",
            "eof_received",
            "shutdown",
            "pause_writing",
            "resume_writing",
            "on_message_begin",
            "on_url",
            "on_headers_complete",
            "on_body",
            "on_message_complete",
            "on_response_complete",
            "timeout_keep_alive_handler",
            "_unset_keepalive_if_required",
            "loop",
            "transport",
            "flow",
            "client",
            "scheme",
            "server_state",
            "parser",
            "pipeline",
            "timeout_keep_alive",
            "timeout_keep_alive_task",
            "scope",
            "url",
            "headers",
            "expect_100_continue",
            "cycle",
        )
    ),
    RequestResponseCycle: frozenset(
        (
            "disconnected",
            "keep_alive",
            "message_event",
            "more_body",
            "response_started",
            "response_complete",
        )
    ),
    FlowControl: frozenset(
        (
            "read_paused",
            "write_paused",
            "resume_reading",
        )
    ),
}
"""Required attributes of each class."""


class UvicornIncompatibleError(ImportError):
    """The installed uvicorn lacks attributes on which the service relies."""


def check(required: dict[type, frozenset[str]] = REQUIRED) -> None:
    """Check that each class of uvicorn has its required attributes.

    Raises:
        UvicornIncompatibleError: Some are missing; the message names them.
    """
    for kind, names in required.items():
        if missing := names - attributes_of(kind):
            msg = (
                f"uvicorn {version('uvicorn')} is not supported: {kind.__name__} has no "
                f"{', '.join(sorted(missing))}; install a version that gatewave allows"
            )
            raise UvicornIncompatibleError(msg)


def attributes_of(kind: type) -> set[str]:
    """Return the names that ``kind`` defines, and those that its methods use.

    A constructor needs a running server. Instance attributes are therefore read from the code of
    the methods, which also contains the names that they only use.
    """
    names = set(dir(kind))
    for method in vars(kind).values():
        if isinstance(method, FunctionType):
            names.update(method.__code__.co_names)
    return names
