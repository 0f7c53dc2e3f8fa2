"""Sockets that wait for connections."""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct

from gatewave.service.errors import ServiceError

SO_ATTACH_FILTER = 26
"""Linux's number of the option; Python has no name for it."""

NO_NEW_CONNECTIONS = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of TCP's header with the flags
        (0x54, 0, 0, 0x12),  # of those, SYN and ACK
        (0x15, 0, 1, 0x02),  # is it SYN alone, with which a connection begins?
        (0x06, 0, 0, 0),  # then drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # otherwise let all of it pass
    )
)
"""Program for the kernel's packet filter (classic BPF): drop the first packet of a handshake."""


class PortUnavailable(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


def bind(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return ``count`` sockets, one for each worker, on one port; they do not listen yet.

    Each worker has its own queue of connections, and the kernel spreads connections evenly over the
    queues. From a shared queue, the worker that wakes first would take all connections. The process
    that calls this owns the sockets, so the queue of a worker that dies waits for its successor.

    Raises:
        PortUnavailable: The port is taken, or the address does not belong to this machine.
    """
    try:
        # With SO_REUSEPORT a port that another process serves would count as free.
        first = _bound(host, port, shared=False)
        if count == 1:
            return [first]
        port = first.getsockname()[1]
        first.close()
        return [_bound(host, port, shared=True) for _ in range(count)]
    except OSError as error:
        msg = f"cannot listen on {host}:{port}: {error.strerror}"
        raise PortUnavailable(msg) from error


def join(host: str, port: int) -> socket.socket:
    """Return a socket on a port that other workers share.

    Raises:
        PortUnavailable: Another program has the port, or the address does not belong to this
            machine.
    """
    try:
        return _bound(host, port, shared=True)
    except OSError as error:
        msg = f"cannot listen on {host}:{port}: {error.strerror}"
        raise PortUnavailable(msg) from error


def free_port(host: str, port: int) -> int:
    """Return ``port``, or for 0 one that the system chooses; workers will share it.

    Raises:
        PortUnavailable: The port is taken, or the address does not belong to this machine.
    """
    (listener,) = bind(host, port)
    with listener:
        chosen: int = listener.getsockname()[1]
        return chosen


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def seal(listener: socket.socket) -> None:
    """Stop new connections to ``listener``; connections whose handshake has begun go on.

    Closing a socket resets the connections in its queue, with the requests that they hold. Behind
    this filter, the queue can be emptied first. A client that connects meanwhile gets no answer,
    sends its SYN again after one second (TCP's initial timeout, RFC 6298), and is refused then.
    """
    instructions = ctypes.create_string_buffer(NO_NEW_CONNECTIONS)
    count = len(NO_NEW_CONNECTIONS) // struct.calcsize("HBBI")
    program = struct.pack("HL", count, ctypes.addressof(instructions))
    # Where the kernel does not support it, the last connections may be lost.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def readable(descriptors: list[int]) -> set[int]:
    """Return the descriptors that are readable now: bytes have come, or a connection."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(0)}


def address(listener: socket.socket, scheme: str) -> str:
    """Return the URL of ``listener``."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
