"""Health check of Docker: exits with 0 if the service in this container is ready."""  # noqa: INP001 - a script

import http.client
import os
import socket
import ssl
import sys

HOST = "127.0.0.1"
SECONDS = 4
PORT = int(os.environ.get("GATEWAVE_PORT", "8000"))


def is_ready() -> bool:
    if os.environ.get("GATEWAVE_TLS_CLIENT_CA"):
        # The service requires a client certificate, and this check has none. It only connects.
        with socket.create_connection((HOST, PORT), SECONDS):
            return True
    # urllib would use the proxy that Docker may have put into the environment.
    connection = http.client.HTTPConnection(HOST, PORT, timeout=SECONDS)
    if os.environ.get("GATEWAVE_TLS_CERTIFICATE"):
        # The certificate is for the public name, not for 127.0.0.1.
        unchecked = ssl._create_unverified_context()  # noqa: S323, SLF001 - to itself
        connection = http.client.HTTPSConnection(HOST, PORT, timeout=SECONDS, context=unchecked)
    connection.request("GET", "/readyz")
    return connection.getresponse().status == http.HTTPStatus.OK


sys.exit(not is_ready())
