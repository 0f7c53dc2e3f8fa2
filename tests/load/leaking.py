"""`gatewave`, with a service that leaks memory, files and threads: what a soak has to find."""

import os
import threading

import service.app
from gatewave.cli import main

BYTES = 1 << 16
REQUESTS_PER_FILE = 10

create_app = service.app.create_app
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


def create_leaking_app(settings):
    app = create_app(settings)
    stack = app.build_middleware_stack
    app.build_middleware_stack = lambda: Leak(stack())
    return app


service.app.create_app = create_leaking_app

if __name__ == "__main__":
    main()
