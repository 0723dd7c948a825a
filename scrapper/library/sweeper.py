"""Sweeps: a timer that removes old posts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from scrapper.cancellation import end
from scrapper.library.store import Library
from scrapper.telemetry.metrics import Metrics

__all__ = ["sweeping"]

log = structlog.get_logger(__name__)


@asynccontextmanager
async def sweeping(
    library: Library,
    metrics: Metrics,
    *,
    turn: Callable[[], AbstractAsyncContextManager[bool]],
    max_age: float,
    interval: float,
    reserve: Callable[[str], AbstractAsyncContextManager[bool]],
) -> AsyncIterator[None]:
    """Remove posts older than *max_age* seconds, at once and every *interval* seconds.

    Each sweep runs inside a *turn*, and is skipped if another process has it. Posts whose shortcode
    cannot be reserved stay. The sweeps end with the block.
    """

    async def sweep() -> None:
        async with turn() as ours:
            if ours:
                await _sweep(library, metrics, max_age, reserve)

    task = asyncio.create_task(_every(interval, sweep))
    try:
        yield
    finally:
        await end(task)


async def _every(interval: float, do: Callable[[], Awaitable[None]]) -> None:
    while True:
        await do()
        await asyncio.sleep(interval)


async def _sweep(
    library: Library,
    metrics: Metrics,
    max_age: float,
    reserve: Callable[[str], AbstractAsyncContextManager[bool]],
) -> None:
    try:
        removed = await library.expire(max_age, reserve=reserve)
        usage = await library.usage()
    except OSError as error:
        # The disk may be away for a while. The next sweep tries again.
        metrics.sweeps.labels("failed").inc()
        log.warning("sweep failed", cause=str(error))
    else:
        metrics.sweeps.labels("ok").inc()
        metrics.swept_posts.inc(removed)
        metrics.posts.set(usage.posts)
        metrics.bytes.set(usage.bytes)
        log.info("swept", removed=removed, posts=usage.posts, bytes=usage.bytes)
