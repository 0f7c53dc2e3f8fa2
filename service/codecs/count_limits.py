"""Limits on documents and headers, checked before their parts are read one by one.

They are not settings, because real requests stay far below them. With them, reading takes time
proportional to the length of the text, because no search is longer than they allow.
"""

from __future__ import annotations

from collections.abc import Sized

from gatewave.service.errors import LimitExceeded

MAX_FIELDS = 256
"""Fields of one object (a request, its parameters, the inputs of an activation), and tensors of a
safetensors file."""

MAX_TENSORS = 1024
"""Inputs, or requested outputs, of one inference request."""

MAX_PREFERENCES = 64
"""Parts of one header of preferences (Accept, Accept-Encoding): browsers send up to ten."""

MAX_QUERY_FIELDS = 64
"""Fields of a query string."""


def check_count(value: Sized, most: int, field: str, parts: str) -> None:
    """Refuse ``value`` if it has more than ``most`` parts.

    Raises:
        LimitExceeded: It has more parts.
    """
    if len(value) > most:
        raise LimitExceeded.at(field, f"at most {most} {parts}", len(value))


def check_fields(value: object, field: str) -> None:
    """Refuse an object of JSON with more than `MAX_FIELDS` fields.

    Raises:
        LimitExceeded: It has more fields.
    """
    if isinstance(value, dict):
        check_count(value, MAX_FIELDS, field, "fields")


def check_elements(count: int, most: int) -> None:
    """Refuse a request whose tensors have more than ``most`` elements together.

    Raises:
        LimitExceeded: They have ``count`` elements.
    """
    if count > most:
        raise LimitExceeded.at("inputs", f"at most {most} numbers in all", count)
