"""Limits on documents and headers, checked before the parts are looked at one by one.

They are no settings: no honest request comes near them. With them, reading takes time in proportion
to the length of what is read, since nothing is searched that is longer than they allow.
"""

from __future__ import annotations

from collections.abc import Sized

from service.errors import LimitExceeded

MAX_FIELDS = 256
"""Fields of one object: of a request, its parameters, the inputs of an activation; and the tensors
of a safetensors file."""

MAX_TENSORS = 1024
"""Inputs, or wanted outputs, of one inference request."""

MAX_PREFERENCES = 64
"""Parts of one header of preferences (Accept, Accept-Encoding): browsers send up to ten."""

MAX_QUERY_FIELDS = 64
"""Fields of a query string."""


def check_count(value: Sized, most: int, field: str, parts: str) -> None:
    """Refuse ``value`` if it has more than ``most`` parts.

    Raises:
        LimitExceeded: It has more.
    """
    if len(value) > most:
        raise LimitExceeded.at(field, f"at most {most} {parts}", len(value))


def check_fields(value: object, field: str) -> None:
    """Refuse an object of JSON with more than `MAX_FIELDS` fields.

    Raises:
        LimitExceeded: It has more.
    """
    if isinstance(value, dict):
        check_count(value, MAX_FIELDS, field, "fields")
