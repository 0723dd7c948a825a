"""The timer over :meth:`scrapper.library.Library.expire`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from scrapper.library import Library
from scrapper.metrics import Metrics

__all__ = ["sweeping"]

log = structlog.get_logger(__name__)


@asynccontextmanager
async def sweeping(
    library: Library,
    metrics: Metrics,
    *,
    max_age: float,
    interval: float,
    keep: Callable[[str], bool],
) -> AsyncIterator[None]:
    """Sweep posts older than *max_age* seconds, at once and every *interval* seconds.

    Posts for whose shortcode *keep* answers true stay. The sweeps end with the block.
    """
    task = asyncio.create_task(_sweep_forever(library, metrics, max_age, interval, keep))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_forever(
    library: Library,
    metrics: Metrics,
    max_age: float,
    interval: float,
    keep: Callable[[str], bool],
) -> None:
    while True:
        try:
            removed = await library.expire(max_age, keep=keep)
            usage = await library.usage()
        except OSError as error:
            # The disk may be gone for a while: the next sweep tries again.
            metrics.sweeps.labels("failed").inc()
            log.warning("sweep failed", cause=str(error))
        else:
            metrics.sweeps.labels("ok").inc()
            metrics.swept_posts.inc(removed)
            metrics.posts.set(usage.posts)
            metrics.bytes.set(usage.bytes)
            log.info("swept", removed=removed, posts=usage.posts, bytes=usage.bytes)
        await asyncio.sleep(interval)
