"""Byte types and media types of request bodies and answers."""

from __future__ import annotations

Body = bytes | memoryview
"""Complete request body; a memoryview if it lies in pooled memory."""

Part = bytes | bytearray | memoryview
"""Piece of an answer; a view of a tensor's memory where no copy is needed."""

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"
OCTETS = "application/octet-stream"
