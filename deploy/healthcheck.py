"""Exits with 0 when the service in this container is ready: Docker's HEALTHCHECK."""  # noqa: INP001 - a script

import http.client
import os
import sys

# Not urllib: it would ask the proxy that Docker may have put into the environment.
port = int(os.environ.get("GATEWAVE_PORT", "8000"))
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
connection.request("GET", "/readyz")
sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
