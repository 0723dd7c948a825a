"""Tasks that run beside everything else, none of which may die silently."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

__all__ = ["in_background"]

log = structlog.get_logger(__name__)


def in_background(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start *work*; if it ends by an error, log that under its *name*."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_note_end)
    return task


def _note_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("background task died", task=task.get_name(), exc_info=error)
