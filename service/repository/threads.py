"""Blocking work of the repository in threads, which are counted because they cannot be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class BackgroundThreads:
    """Counted calls in threads: the service may not wait for them when it ends.

    A cancelled task leaves its thread running, for example in a file system that does not answer.
    Python waits for such threads at its exit, so the worker must know of them.
    """

    def __init__(self) -> None:
        self._running: set[object] = set()

    @property
    def is_busy(self) -> bool:
        """Return whether a call is still running."""
        return bool(self._running)

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return the result of ``function``, called in a thread."""
        token = object()

        def counted() -> Result:
            self._running.add(token)
            try:
                return function(*arguments)
            finally:
                self._running.discard(token)

        return await asyncio.to_thread(counted)
