"""Command `gatewave` with a service that leaks memory, files and threads, as a control of the soak.

Workers are separate processes, which import this module through their `sitecustomize`.
"""

import os
import threading
from pathlib import Path

BYTES = 1 << 16
REQUESTS_PER_FILE = 10

kept = []


class Leak:
    """Pure ASGI middleware that keeps a little of each request for ever."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        kept.append(os.urandom(BYTES))
        if len(kept) % REQUESTS_PER_FILE == 0:
            kept.append(os.dup(0))
            thread = threading.Thread(target=threading.Event().wait, daemon=True)
            thread.start()
        await self.app(scope, receive, send)


def leak():
    """Make the applications of this process leak."""
    import gatewave.service.app  # noqa: PLC0415 - in workers only

    create_app = gatewave.service.app.create_app

    def create_leaking_app(settings):
        app = create_app(settings)
        stack = app.build_middleware_stack
        app.build_middleware_stack = lambda: Leak(stack())
        return app

    gatewave.service.app.create_app = create_leaking_app


def main():
    from gatewave.cli.main import main  # noqa: PLC0415

    folders = (Path(__file__).parent / "leak", Path(__file__).parent, os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(str(folder) for folder in folders if folder)
    main()


if __name__ == "__main__":
    main()
