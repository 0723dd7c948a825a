"""Helpers that ensure that tasks end and that their errors are logged.

A single cancellation may be lost. For example, redis-py 8.1 checks each connection before using it,
with a timeout of zero, and mistakes a cancellation at that moment for the timeout.
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

_CANCEL_SECONDS = 0.1
_LOG_SECONDS = 0.2

Result = TypeVar("Result")


def in_background(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start *work* as a task called *name*; log any error that ends the task."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_error)
    return task


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel *task* repeatedly until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_SECONDS)


async def endable(work: Awaitable[Result]) -> Result:
    """Wait for *work*; if the wait is cancelled, keep cancelling *work* until it has ended."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    finally:
        await end(task)
    return task.result()


async def finished(work: Awaitable[Result]) -> Result:
    """Wait for *work* even if the wait is cancelled.

    This is for work in a thread, because a thread cannot be stopped.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise


def on_signal(seconds: float) -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; the process ends at most *seconds* later."""
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()

    def handle() -> None:
        signalled.set()
        end_process_within(seconds)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle)
    return signalled


def end_process_within(seconds: float) -> None:
    """End the process within *seconds*, even if its threads hang."""

    def end() -> None:
        log.warning("stopped: a thread hangs")
        # Give the thread that writes the log some time to finish.
        time.sleep(_LOG_SECONDS)
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _log_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("background task died", task=task.get_name(), exc_info=error)
