"""Reader of Protocol Buffers messages, without a schema and without copies."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10
LARGEST_TAG = (1 << 32) - 1
MAX_FIELDS = 20_000_000

Span = tuple[int, int]


class MalformedError(Exception):
    """The bytes are not a Protocol Buffers message, or the message has too many fields."""


class WireReader:
    """Reader of the messages in ``data``, with a limit on the fields of all messages together."""

    def __init__(self, data: bytes, most_fields: int = MAX_FIELDS) -> None:
        self.data = data
        self._fields_left = most_fields

    def fields(self, span: Span) -> Iterator[tuple[int, Span]]:
        """Yield the number and span of each length-delimited field of the message at ``span``.

        Fields of other kinds are skipped: they contain no messages.

        Raises:
            MalformedError: The bytes are no message.
        """
        for number, kind, _, inner in self.parts(span):
            if kind == LENGTH_DELIMITED:
                yield number, inner

    def values(self, span: Span) -> Iterator[tuple[int, int | Span]]:
        """Yield each field of the message at ``span``: its number, and its value or span.

        Fields of kind `VARINT` have their value.

        Raises:
            MalformedError: The bytes are no message.
        """
        for number, kind, _, inner in self.parts(span):
            yield number, self._varint(*inner)[0] if kind == VARINT else inner

    def varints(self, span: Span) -> Iterator[int]:
        """Yield the numbers of a packed field.

        Raises:
            MalformedError: The last number is cut off.
        """
        position, end = span
        while position < end:
            value, position = self._varint(position, end)
            yield value

    def parts(self, span: Span) -> Iterator[tuple[int, int, int, Span]]:
        """Yield the number, kind, start and value's span of each field at ``span``.

        Raises:
            MalformedError: The bytes are no message.
        """
        position, end = span
        while position < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise MalformedError("it has too many fields")
            start = position
            tag, position = self._varint(position, end)
            number, kind = tag >> 3, tag & 7
            if not number or tag > LARGEST_TAG:
                raise MalformedError(f"there is no field at byte {position}")
            size, position = self._size(kind, position, end)
            if size > end - position:
                raise MalformedError(f"the field at byte {position} is cut off")
            yield number, kind, start, (position, position + size)
            position += size

    def varint(self, span: Span) -> int:
        """Return the number at ``span``."""
        return self._varint(*span)[0]

    def bytes(self, span: Span) -> bytes:
        begin, end = span
        return self.data[begin:end]

    def _size(self, kind: int, position: int, end: int) -> tuple[int, int]:
        """Return the number of bytes in the value of a field, and their position."""
        if kind == LENGTH_DELIMITED:
            return self._varint(position, end)
        if kind == VARINT:
            return self._varint(position, end)[1] - position, position
        if kind in WIDTHS:
            return WIDTHS[kind], position
        raise MalformedError(f"the field at byte {position} is of no kind that is used")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(LONGEST_VARINT):
            if position >= end:
                raise MalformedError(f"the number at byte {position} is cut off")
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
                return value, position
        raise MalformedError(f"the number at byte {position} does not end")


def varint(value: int) -> bytes:
    """Return the encoding of a number that is not negative."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - what fits beside the bit that says that more follows
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
