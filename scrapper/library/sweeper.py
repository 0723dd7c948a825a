"""Removes old posts at regular intervals."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from scrapper.errors import MediaFolderGone
from scrapper.library.store import Library
from scrapper.setting_types import DAY
from scrapper.tasks import end, in_background
from scrapper.telemetry.metrics import Metrics

__all__ = ["sweeping"]

log = structlog.get_logger(__name__)

_ADVICE = "MAX_MEDIA_AGE_DAYS=0 turns this off; kept posts are never removed"


@asynccontextmanager
async def sweeping(
    library: Library,
    metrics: Metrics,
    *,
    turn: Callable[[], AbstractAsyncContextManager[object]],
    clock_is_trusted: Callable[[], bool],
    max_age: float,
    interval: float,
    reserve: Callable[[str], AbstractAsyncContextManager[bool]],
) -> AsyncIterator[None]:
    """Sweep once at startup and then every *interval* seconds, as long as the block runs.

    A sweep removes posts older than *max_age* seconds, except those for which *reserve* yields
    False because they are in use. Each sweep runs inside the context manager returned by *turn*,
    and is skipped if the context manager yields a false value because another process has the turn.
    If the clock is not trusted, a sweep removes nothing. *clock_is_trusted* is called in a thread.
    """

    async def sweep() -> None:
        async with turn() as ours:
            if ours:
                await _sweep(library, metrics, clock_is_trusted, max_age, reserve)

    if math.isfinite(max_age):
        log.info("old posts will be removed", days=max_age / DAY, advice=_ADVICE)
    else:
        log.info("posts are never removed")
    task = in_background(_every(interval, sweep), "sweeper")
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
    clock_is_trusted: Callable[[], bool],
    max_age: float,
    reserve: Callable[[str], AbstractAsyncContextManager[bool]],
) -> None:
    removed = 0
    try:
        # Read the time before the check, because the clock may jump after it.
        now = time.time()
        is_trusted = await asyncio.to_thread(clock_is_trusted)
        if is_trusted:
            removed = await library.expire(max_age, now=now, reserve=reserve)
        usage = await library.usage()
    except (OSError, MediaFolderGone) as error:
        # The disk may be temporarily unmounted. The next sweep will try again.
        metrics.sweeps.labels("failed").inc()
        log.warning("sweep failed", cause=repr(error))
    except Exception:
        metrics.sweeps.labels("failed").inc()
        log.exception("sweep failed")
    else:
        metrics.sweeps.labels("ok" if is_trusted else "skipped").inc()
        metrics.swept_posts.inc(removed)
        metrics.posts.set(usage.posts)
        metrics.bytes.set(usage.bytes)
        event = "swept" if is_trusted else "sweep skipped: clock not trusted"
        log.info(event, removed=removed, posts=usage.posts, bytes=usage.bytes)
