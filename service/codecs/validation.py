"""Conversion of pydantic's validation errors into errors of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewave.service.errors import MAX_ERRORS, FieldError, RequestInvalid
from gatewave.service.quoting import CONFIDENTIAL, NOTHING, Words, cut, quoted

UNQUOTED = {"missing": NOTHING, CONFIDENTIAL: Words("a value that is not repeated here")}
"""Descriptions of the received value, by the types of errors that do not quote it."""

EXPECTED = {
    "missing": "a value: the field is required",
    "extra_forbidden": "no field of this name",
    "model_type": "an object",
    "dict_type": "an object",
}
"""Descriptions of the expected value, by the types of errors whose own text is about Python."""


def from_pydantic(errors: Sequence[Mapping[str, Any]]) -> RequestInvalid:
    """Return the error of a request or a file in which pydantic found ``errors``."""
    return RequestInvalid(
        *(
            FieldError(
                field=cut(".".join(map(str, error["loc"])) or "body"),
                expected=_expected(error),
                got=UNQUOTED.get(error["type"]) or quoted(error["input"]),
            )
            for error in errors[:MAX_ERRORS]
        ),
        count=len(errors),
    )


def _expected(error: Mapping[str, Any]) -> str:
    message: str = error["msg"]
    return EXPECTED.get(error["type"]) or message.removeprefix("Input should be ")
