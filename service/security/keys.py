"""Who may do what, and what every answer tells a browser.

A key is 256 random bits that one caller knows. The configuration holds only its SHA-256: nobody can
go back from that to the key, and with so many random bits neither salt nor a slow hash adds to it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatewave.service.errors import (
    ClientLimited,
    KeyMissing,
    ScopeMissing,
    ServiceError,
    SettingsInvalid,
)
from gatewave.service.security.clients import CLIENT, RateLimiter, client_of

Right = Literal["infer", "admin"]

GRANTS: dict[str, frozenset[Right]] = {
    "infer": frozenset({"infer"}),
    "admin": frozenset({"infer", "admin"}),
}
"""What a key of each scope allows: who may load models may run them too."""

NOTHING: frozenset[Right] = frozenset()
EVERYBODY: frozenset[Right] = frozenset({"infer"})
"""What anybody may do where there are no keys: all but to change what is served."""

PUBLIC = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""What needs no key: whoever starts and watches the process asks it, and it tells nothing else."""

LARGEST_KEYS_FILE = 1 << 22
"""Size limit in bytes, for some 50,000 keys."""

ADMIN = "/v2/repository/models/"
"""What the paths begin with that load and unload models."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as the configuration holds it: the digest, and what the key allows."""

    digest: bytes
    grants: frozenset[Right]


class Keys:
    """The keys that callers may present.

    Attributes:
        required: Whether there are any; without, everybody may infer, and nobody is admin.
    """

    __slots__ = ("entries", "required")

    def __init__(self, *entries: Entry) -> None:
        self.entries = entries
        self.required = bool(entries)

    @classmethod
    def parse(cls, text: str) -> Keys:
        """The keys of ``scope:sha256`` pairs with commas between them, as `new_key` makes them.

        Raises:
            ValueError: A pair is something else; the message does not repeat it.
        """
        pairs = [pair.strip() for pair in text.split(",") if pair.strip()]
        return cls(*(_entry(number, pair) for number, pair in enumerate(pairs, 1)))

    def replace(self, others: Keys) -> None:
        """Replace all keys by those of ``others``; each request is checked against one set."""
        self.entries = others.entries
        self.required = others.required

    def scopes(self, presented: str | bytes | None) -> frozenset[Right]:
        """What the bearer of the key ``presented`` may do.

        Every entry is compared, whichever fits, so that the time taken tells nothing.
        """
        if not self.required:
            return EVERYBODY
        key = presented.encode(errors="replace") if isinstance(presented, str) else presented or b""
        digest = hashlib.sha256(key).digest()
        granted = NOTHING
        for entry in self.entries:
            granted |= entry.grants if hmac.compare_digest(entry.digest, digest) else NOTHING
        return granted

    def require(self, presented: str | bytes | None, right: Right = "infer") -> None:
        """See that the bearer of ``presented`` may do that.

        Raises:
            KeyMissing: No key is presented, or an unknown one.
            ScopeMissing: The key does not allow it.
        """
        granted = self.scopes(presented)
        if right in granted:
            return
        if granted:
            raise ScopeMissing(_allows(granted, right, keys=self.required))
        said = "is not known" if presented else "is missing"
        raise KeyMissing(f"the key {said}: expected Authorization: Bearer KEY, or X-API-Key: KEY")

    def check(self, headers: Iterable[tuple[bytes, bytes]], right: Right = "infer") -> None:
        """As `require`, of who sent ``headers``."""
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


def _lines(file: Path) -> list[str]:
    try:
        if file.exists() and not file.is_file():  # Opening a pipe would block.
            raise SettingsInvalid(f"keys_file {file}: expected a file")
        with file.open("rb") as opened:
            content = opened.read(LARGEST_KEYS_FILE + 1)
    except OSError as error:
        raise SettingsInvalid(f"keys_file {file} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_KEYS_FILE:
        raise SettingsInvalid(f"keys_file {file} has more than {LARGEST_KEYS_FILE} bytes")
    return content.decode(errors="replace").splitlines()


def _entry(number: int, pair: str) -> Entry:
    scope, _, digest = pair.partition(":")
    if scope not in GRANTS or not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise ValueError(
            f"scope:sha256 pairs with commas between them, scope one of {', '.join(GRANTS)} and "
            f"sha256 64 hexadecimal digits, as `gatewave key` prints them; number {number} is not"
        )
    return Entry(bytes.fromhex(digest), GRANTS[scope])


def _allows(granted: Iterable[Right], right: Right, *, keys: bool) -> str:
    if not keys:
        return f"this needs a key of scope {right}, and the service has no keys"
    return f"this needs a key of scope {right}, and this one is of scope {', '.join(granted)}"


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key in ``headers``: of ``Authorization: Bearer``, or else of ``X-API-Key``."""
    other = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key" and other is None:
            other = value.strip()
    return other


def new_key(scope: Right) -> tuple[str, str]:
    """A key for a caller, and the pair that the configuration is to hold."""
    key = "gw_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return key, f"{scope}:{hashlib.sha256(key.encode()).hexdigest()}"


class Access:
    """Pure ASGI middleware that rejects requests without a sufficient key.

    Args:
        keys: The accepted keys and their scopes.
        refuse: Returns the error answer of a path's protocol for a reason.
        rate: Limit on the requests of each client, if there is one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        refuse: Callable[[str, ServiceError], ASGIApp],
        rate: RateLimiter | None = None,
    ) -> None:
        self.app = app
        self.keys = keys
        self.refuse = refuse
        self.rate = rate
        self._is_open = rate is None and not keys.required

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine itself: where there are no keys, that would cost more than what it does.
        if scope["type"] == "http":
            path: str = scope["path"]
            if (not self._is_open and path not in PUBLIC) or path.startswith(ADMIN):
                return self._guarded(scope)(scope, receive, send)
        return self.app(scope, receive, send)

    def _guarded(self, scope: Scope) -> ASGIApp:
        try:
            self._check(scope)
        except (KeyMissing, ScopeMissing, ClientLimited) as error:
            return self.refuse(scope["path"], error)
        return self.app

    def _check(self, scope: Scope) -> None:
        try:
            if self.keys.required or scope["path"].startswith(ADMIN):
                self.keys.check(scope["headers"], _right(scope))
            if self.keys.required:
                scope[CLIENT] = presented(scope["headers"])
        finally:
            # Without a known key, by the address: callers can invent keys.
            if self.rate is not None:
                self.rate.admit(client_of(scope))


def _right(scope: Scope) -> Right:
    return "admin" if scope["path"].startswith(ADMIN) else "infer"


NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")

HEADERS = (NOSNIFF, NO_STORE)
"""What computed answers carry. They are never pages: held to their media type, a browser runs
nothing in them, and a policy for what they may load would be paid for by each and apply to none."""

POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
REFERRER = (b"referrer-policy", b"no-referrer")

PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self' data:; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'; script-src 'self'"
)
"""What the pages of the documentation need: all from here, and the scripts that stand in them."""

INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class SecurityHeaders:
    """Pure ASGI middleware: tells browsers to run, load, frame and keep as little as can be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        page: Message | None = None

        async def guarded(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                if (b"content-type", b"text/html; charset=utf-8") in message["headers"]:
                    page = message  # Its policy names its scripts, so they have to be seen first.
                    return
                message["headers"] = _with_policy(message["headers"], POLICY)
            elif page is not None:
                policy = page_policy(message.get("body", b""))
                page["headers"] = _with_policy(page["headers"], policy)
                started, page = page, None
                await send(started)
            await send(message)

        await self.app(scope, receive, guarded)


def page_policy(page: bytes) -> str:
    """The policy of a page: it may run the scripts that stand in it, by their digests."""
    digests = (hashlib.sha256(script).digest() for script in INLINE_SCRIPT.findall(page))
    return PAGE_POLICY + "".join(f" 'sha256-{base64.b64encode(d).decode()}'" for d in digests)


def _with_policy(headers: Iterable[tuple[bytes, bytes]], policy: str) -> list[tuple[bytes, bytes]]:
    said = list(headers)
    names = {name for name, _ in said}
    ours = (*HEADERS, REFERRER, (b"content-security-policy", policy.encode()))
    return said + [header for header in ours if header[0] not in names]


def refuse_exposure(host: str, *, keys: Keys, allow_anonymous: bool) -> None:
    """Keep a service without keys on this machine, unless it is meant to be open.

    Raises:
        SettingsInvalid: ``host`` can be reached from elsewhere.
    """
    if keys.required or allow_anonymous or _is_loopback(host):
        return
    raise SettingsInvalid(
        f"{host or 'the empty host'} can be reached from other machines, and there are no keys: "
        "make some with `gatewave key` and set GATEWAVE_KEYS, or set GATEWAVE_ALLOW_ANONYMOUS=true "
        "if whoever reaches it may use it"
    )


def _is_loopback(host: str) -> bool:
    """Whether all that ``host`` means is this machine alone."""
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)
