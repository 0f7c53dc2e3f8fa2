"""TLS: the certificate of the service, and the authority for certificates of clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gatewave.service.errors import SettingsInvalid


class TLSSettings(Protocol):
    """Paths of the files in PEM, as `Settings` has them."""

    @property
    def tls_certificate(self) -> Path | None: ...
    @property
    def tls_key(self) -> Path | None: ...
    @property
    def tls_client_ca(self) -> Path | None: ...


def context(settings: TLSSettings) -> ssl.SSLContext | None:
    """Return the TLS context of HTTPS, for TLS 1.2 or later; None without a certificate.

    Raises:
        SettingsInvalid: A file cannot be read, or the files do not fit together.
    """
    if settings.tls_certificate is None:
        for name in ("tls_key", "tls_client_ca"):
            if getattr(settings, name) is not None:
                raise SettingsInvalid(f"{name} is of no use without tls_certificate")
        return None
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(tls, settings.tls_certificate, settings.tls_key)
    if settings.tls_client_ca is not None:
        _trust(tls, settings.tls_client_ca)
    return tls


@dataclass(frozen=True, slots=True)
class Files:
    """Contents of the files, in the form that gRPC needs."""

    certificate: bytes
    key: bytes
    ca: bytes | None


class Certificates:
    """Certificates of the settings, which can be read again while connections are open.

    Attributes:
        context: The TLS context of HTTPS, or None if connections are not encrypted. New handshakes
            use the files that were read last; open connections keep theirs.
    """

    def __init__(self, settings: TLSSettings) -> None:
        """Read the files.

        Raises:
            SettingsInvalid: See `context`.
        """
        self._settings = settings
        self.context = self._current = context(settings)
        self._files = self._read()
        if self.context is not None:
            # A context cannot remove a trusted authority, so each reading creates a new context.
            self.context.sni_callback = self._choose

    @property
    def files(self) -> Files:
        """Contents of the files that were read last.

        Raises:
            SettingsInvalid: Connections are not encrypted.
        """
        if self._files is None:
            raise SettingsInvalid("there is no tls_certificate")
        return self._files

    def reload(self) -> None:
        """Read the files again.

        Raises:
            SettingsInvalid: The files cannot be used; the previous contents stay in use.
        """
        current = context(self._settings)
        self._files = self._read()
        self._current = current

    def _read(self) -> Files | None:
        certificate, authority = self._settings.tls_certificate, self._settings.tls_client_ca
        if certificate is None:
            return None
        try:
            return Files(
                certificate.read_bytes(),
                (self._settings.tls_key or certificate).read_bytes(),
                authority.read_bytes() if authority else None,
            )
        except OSError as error:
            raise SettingsInvalid(f"{error.filename} cannot be read: {error.strerror}") from error

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        """Continue a handshake with the context that was read last; OpenSSL calls this for each."""
        if self._current is not None:
            connection.context = self._current


def _load_certificate(tls: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        if path is not None:
            _readable(name, path)
    try:
        # Without a password OpenSSL would ask for one, on a terminal that may not be there.
        tls.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        beside = f"tls_key {key}" if key else "a private key in the same file"
        raise SettingsInvalid(
            f"tls_certificate {certificate} and {beside} cannot be used: expected a certificate "
            f"chain and its own private key, in PEM and not encrypted ({_reason(error)})"
        ) from error


def _trust(tls: ssl.SSLContext, authority: Path) -> None:
    _readable("tls_client_ca", authority)
    try:
        tls.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise SettingsInvalid(
            f"tls_client_ca {authority} cannot be used: expected certificates in PEM "
            f"({_reason(error)})"
        ) from error
    tls.verify_mode = ssl.CERT_REQUIRED


def _readable(name: str, path: Path) -> None:
    try:
        if path.is_fifo():  # Opening it would wait for a writer.
            raise SettingsInvalid(f"{name} {path} cannot be read: it is a pipe")
        path.open("rb").close()
    except OSError as error:
        raise SettingsInvalid(f"{name} {path} cannot be read: {error.strerror}") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
