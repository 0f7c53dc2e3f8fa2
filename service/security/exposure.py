"""Protection against a service that is open to other machines by mistake."""

from __future__ import annotations

import ipaddress
import socket

from gatewave.service.errors import SettingsInvalid
from gatewave.service.security.keys import Keys


def refuse_exposure(host: str, *, keys: Keys, allow_anonymous: bool) -> None:
    """Allow a service without keys on this machine only, unless that is requested.

    Raises:
        SettingsInvalid: ``host`` can be reached from other machines.
    """
    if keys.required or allow_anonymous or _is_loopback(host):
        return
    raise SettingsInvalid(
        f"{host or 'the empty host'} can be reached from other machines, and there are no keys: "
        "create some with `gatewave key` and set GATEWAVE_KEYS, or set "
        "GATEWAVE_ALLOW_ANONYMOUS=true if every machine that reaches the service may use it"
    )


def _is_loopback(host: str) -> bool:
    """Return True if all addresses of ``host`` are loopback addresses."""
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)
