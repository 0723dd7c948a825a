"""Tasks that are sure to end, and whose errors are always logged.

redis-py 8.1 checks a connection with a timeout of zero before it uses it. A cancellation at that
very moment looks like the timeout, and is lost.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import structlog

__all__ = ["end", "end_process_within", "endable", "finished", "in_background", "on_signal"]

log = structlog.get_logger(__name__)

_SECONDS_BETWEEN_TRIES = 0.1
_LOG_SECONDS = 0.2

Result = TypeVar("Result")


def in_background(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start *work*; log an error that ends it, under its *name*."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_note_end)
    return task


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel *task* repeatedly until it is over."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_SECONDS_BETWEEN_TRIES)


async def endable(work: Awaitable[Result]) -> Result:
    """Wait for *work*, and make sure that it ends if the wait is cancelled."""
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


def on_signal(seconds: float) -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; the process ends within *seconds* of that."""
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()

    def note() -> None:
        signalled.set()
        end_process_within(seconds)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note)
    return signalled


def end_process_within(seconds: float) -> None:
    """End the process within *seconds*, whatever its threads do."""

    def end() -> None:
        log.warning("stopped: a thread hangs")
        # Another thread writes the log.
        time.sleep(_LOG_SECONDS)
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _note_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("background task died", task=task.get_name(), exc_info=error)
