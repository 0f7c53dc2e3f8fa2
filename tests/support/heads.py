"""Requests written byte by byte, over sockets."""

import json
import socket
from urllib.parse import urlsplit

GOOD = json.dumps({"activation": "swiglu", "inputs": {"a": [1, 2], "b": [3, 4]}}).encode()
OIP = json.dumps(
    {"inputs": [{"name": n, "datatype": "FP32", "shape": [1], "data": [1]} for n in ("a", "b")]}
).encode()


def connect(server, source="127.0.0.1"):
    """Return a connection to ``server`` from one of this machine's own addresses."""
    address = ("127.0.0.1", urlsplit(server.url).port)
    connection = socket.create_connection(address, 30, source_address=(source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request(body, path="/activate", method="POST", **headers):
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def status(connection, asked):
    """Return the status and the document of the answer to ``asked``; 0 if the connection ends."""
    try:
        connection.sendall(asked)
        with connection.makefile("rb") as file:
            first = file.readline()
            if not first:
                return 0, None, {}
            fields = dict(
                line.strip().lower().split(b": ") for line in iter(file.readline, b"\r\n")
            )
            body = file.read(int(fields[b"content-length"]))
            return int(first.split()[1]), json.loads(body), fields
    except ConnectionError:
        return 0, None, {}


def asked_anew(server, asked, source="127.0.0.1"):
    with connect(server, source) as connection:
        return status(connection, asked)[0]
