"""API keys of callers, and their rights.

A key is 256 random bits that one caller knows. The configuration holds its SHA-256 only. The key
cannot be computed from that, and with so many random bits neither salt nor a slow hash adds to it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gatewave.service.errors import KeyMissing, ScopeMissing, SettingsInvalid

Right = Literal["infer", "admin"]

GRANTS: dict[str, frozenset[Right]] = {
    "infer": frozenset({"infer"}),
    "admin": frozenset({"infer", "admin"}),
}
"""Rights of a key, by its scope."""

NO_RIGHTS: frozenset[Right] = frozenset()
ANONYMOUS: frozenset[Right] = frozenset({"infer"})
"""Rights of all callers if there are no keys."""

MAX_KEYS_FILE = 1 << 22
"""Size limit in bytes, for some 50,000 keys."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key in the configuration: its digest, and the rights that it grants."""

    digest: bytes
    grants: frozenset[Right]


class Keys:
    """Keys that callers may present.

    Attributes:
        required: True if there are any. Without keys, all callers may infer, and no caller is
            admin.
    """

    __slots__ = ("entries", "required")

    def __init__(self, *entries: KeyEntry) -> None:
        self.entries = entries
        self.required = bool(entries)

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Return the keys of comma-separated ``scope:sha256`` pairs, as `new_key` makes them.

        Raises:
            ValueError: A pair has another form; the message does not repeat it.
        """
        pairs = [pair.strip() for pair in text.split(",") if pair.strip()]
        return cls(*(_entry(number, pair) for number, pair in enumerate(pairs, 1)))

    def replace(self, others: Keys) -> None:
        """Replace all keys by those of ``others``; each request is checked against one set."""
        self.entries = others.entries
        self.required = others.required

    def scopes(self, presented: str | bytes | None) -> frozenset[Right]:
        """Return the rights of a caller with the key ``presented``.

        All entries are compared, in constant time each: the duration reveals no entry.
        """
        if not self.required:
            return ANONYMOUS
        key = presented.encode(errors="replace") if isinstance(presented, str) else presented or b""
        digest = hashlib.sha256(key).digest()
        granted = NO_RIGHTS
        for entry in self.entries:
            granted |= entry.grants if hmac.compare_digest(entry.digest, digest) else NO_RIGHTS
        return granted

    def require(self, presented: str | bytes | None, right: Right = "infer") -> None:
        """Check that the key ``presented`` grants ``right``.

        Raises:
            KeyMissing: There is no key, or an unknown one.
            ScopeMissing: The key does not grant it.
        """
        granted = self.scopes(presented)
        if right in granted:
            return
        if granted:
            raise ScopeMissing(_needed(granted, right, keys=self.required))
        state = "is not known" if presented else "is missing"
        raise KeyMissing(f"the key {state}: expected Authorization: Bearer KEY, or X-API-Key: KEY")

    def check(self, headers: Iterable[tuple[bytes, bytes]], right: Right = "infer") -> None:
        """Check, as `require` does, the key in the headers of a request."""
        self.require(presented(headers), right)


def configured(keys: str, file: Path | None) -> Keys:
    """Return the keys of the settings and of ``file``: one on each line; ``#`` begins a comment.

    Raises:
        SettingsInvalid: The file cannot be read, contains no key, or has an invalid line.
    """
    entries = list(Keys.parse(keys).entries)
    if file is None:
        return Keys(*entries)
    count = len(entries)
    for number, line in enumerate(_lines(file), 1):
        pair = line.partition("#")[0].strip()
        if not pair:
            continue
        try:
            entries += Keys.parse(pair).entries
        except ValueError as error:
            why = "expected scope:sha256, as `gatewave key` prints it"
            raise SettingsInvalid(f"keys_file {file}, line {number}: {why}") from error
    if len(entries) == count:
        raise SettingsInvalid(f"keys_file {file} holds no keys: expected one on each line")
    return Keys(*entries)


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the key in ``headers``, or None; ``Authorization: Bearer`` precedes ``X-API-Key``."""
    other = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key" and other is None:
            other = value.strip()
    return other


def new_key(scope: Right) -> tuple[str, str]:
    """Return a key for a caller, and the ``scope:sha256`` pair for the configuration."""
    key = "gw_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return key, f"{scope}:{hashlib.sha256(key.encode()).hexdigest()}"


def _lines(file: Path) -> list[str]:
    try:
        if file.exists() and not file.is_file():  # Opening a pipe would block.
            raise SettingsInvalid(f"keys_file {file}: expected a file")
        with file.open("rb") as opened:
            content = opened.read(MAX_KEYS_FILE + 1)
    except OSError as error:
        raise SettingsInvalid(f"keys_file {file} cannot be read: {error.strerror}") from error
    if len(content) > MAX_KEYS_FILE:
        raise SettingsInvalid(f"keys_file {file} has more than {MAX_KEYS_FILE} bytes")
    return content.decode(errors="replace").splitlines()


def _entry(number: int, pair: str) -> KeyEntry:
    scope, _, digest = pair.partition(":")
    if scope not in GRANTS or not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise ValueError(
            f"scope:sha256 pairs with commas between them, scope one of {', '.join(GRANTS)} and "
            f"sha256 64 hexadecimal digits, as `gatewave key` prints them; number {number} is not"
        )
    return KeyEntry(bytes.fromhex(digest), GRANTS[scope])


def _needed(granted: Iterable[Right], right: Right, *, keys: bool) -> str:
    if not keys:
        return f"this needs a key of scope {right}, and the service has no keys"
    return f"this needs a key of scope {right}, and this one is of scope {', '.join(granted)}"
