"""Tasks that end for certain, and that never die silently.

redis-py 8.1 checks a connection with a timeout of zero before it uses it. A cancellation at that
very moment is mistaken for the timeout, and lost.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import structlog

__all__ = ["end", "endable", "finished", "in_background"]

log = structlog.get_logger(__name__)

_SECONDS_BETWEEN_TRIES = 0.1

Result = TypeVar("Result")


def in_background(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start *work*; if it ends by an error, log that under its *name*."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_note_end)
    return task


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel *task*, again and again, until it is over."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_SECONDS_BETWEEN_TRIES)


async def endable(work: Awaitable[Result]) -> Result:
    """Wait for *work*; cancelling the wait ends *work* for certain."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    finally:
        await end(task)
    return task.result()


async def finished(work: Awaitable[Result]) -> Result:
    """Wait for *work*, even if the wait is cancelled: nothing can stop a thread."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise


def _note_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("background task died", task=task.get_name(), exc_info=error)
