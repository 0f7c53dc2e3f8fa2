"""Negotiation of media types: of a body, and of its answer."""

from __future__ import annotations

from collections.abc import Mapping

from gatewave.service.codecs.bodies import JSON, SAFETENSORS
from gatewave.service.codecs.count_limits import MAX_PREFERENCES
from gatewave.service.errors import LimitExceeded, MediaTypeUnacceptable, MediaTypeUnsupported

JSON_BYTES = JSON.encode()
MEDIA_TYPES = (JSON, SAFETENSORS)


def content_type(header: str | None, allowed: tuple[str, ...] = MEDIA_TYPES) -> str:
    """Return the media type of a body; without a header it is JSON.

    Raises:
        MediaTypeUnsupported: The media type is not ``allowed``.
    """
    if header in allowed:
        return header
    kind = (header or JSON).partition(";")[0].strip().lower()
    if kind not in allowed:
        raise MediaTypeUnsupported.at("Content-Type", f"one of {', '.join(allowed)}", kind)
    return kind


def is_json(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a body and its answer are JSON, by a quick look at the headers."""
    return headers.get(b"content-type", JSON_BYTES) == JSON_BYTES and headers.get(
        b"accept", b"*/*"
    ) in {b"*/*", JSON_BYTES}


def accepted(header: str | None, default: str, offered: tuple[str, ...] = MEDIA_TYPES) -> str:
    """Return the media type of the answer: the first that is accepted, ``default`` before others.

    Raises:
        MediaTypeUnacceptable: The client accepts no offered media type.
        LimitExceeded: The header has too many parts.
    """
    if header is None or header == "*/*":
        return default
    weights = preferences(header, "Accept")
    candidates = sorted(offered, key=lambda kind: kind != default)
    best = max(candidates, key=lambda kind: _preference(kind, weights))
    if _preference(best, weights) <= 0:
        raise MediaTypeUnacceptable.at("Accept", f"one of {', '.join(offered)}", header)
    return best


def preferences(header: str, name: str) -> dict[str, float]:
    """Return the preferences in the header ``name``, with the weight of each.

    Raises:
        LimitExceeded: The header has too many parts.
    """
    parts = header.count(",") + header.count(";") + 1
    if parts > MAX_PREFERENCES:
        raise LimitExceeded.at(name, f"at most {MAX_PREFERENCES} parts", parts)
    return dict(map(weighted, header.split(",")))


def weighted(media_range: str) -> tuple[str, float]:
    """Return the name in one part of a header of preferences, and its weight."""
    kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        number = float(quality)
    except ValueError:
        number = 0.0
    return kind, number if 0 <= number <= 1 else 0.0


def _preference(kind: str, weights: Mapping[str, float]) -> float:
    family = kind.partition("/")[0] + "/*"
    return next((weights[k] for k in (kind, family, "*/*") if k in weights), 0.0)
