"""The end of tasks, also of those that talk to Redis.

redis-py 8.1 looks into a connection within a timeout of no time before it uses it; a cancellation
that comes just then is taken for that timeout, and lost.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

__all__ = ["end", "endable"]

_SECONDS_BETWEEN_TRIES = 0.1

Result = TypeVar("Result")


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel *task* until it is over, however it ends."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_SECONDS_BETWEEN_TRIES)


async def endable(work: Awaitable[Result]) -> Result:
    """Wait for *work*; to be cancelled ends it for certain."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    finally:
        await end(task)
    return task.result()
