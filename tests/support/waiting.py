"""Waiting for conditions that no event announces."""

import asyncio
import time


def eventually(condition, seconds=30, *, pause=0.005, ignored=()):
    """Return the first true result of ``condition``.

    Args:
        condition: Called until its result is true.
        seconds: The longest time to wait.
        pause: Seconds between two calls.
        ignored: Exceptions of ``condition`` that count as a false result.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if result := condition():
                return result
        except ignored:
            pass
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(pause)


async def until(condition, seconds=30):
    """Let other tasks run until ``condition`` is true; it is checked in each cycle of the loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0)
