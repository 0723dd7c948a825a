"""``python -m scrapper worker``: run the jobs accepted by replicas of the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import structlog
from aiohttp import web

from scrapper.app import create_worker_app
from scrapper.assembly import ServiceParts, assemble, working
from scrapper.handlers.resources import API_KEYS
from scrapper.replicas.fleet import Fleet
from scrapper.replicas.queue import STREAM
from scrapper.serving.connections import running_app
from scrapper.serving.listeners import tcp_listener
from scrapper.settings import Settings
from scrapper.tasks import on_signal
from scrapper.telemetry.logs import Scrubber, merged

__all__ = ["work"]

log = structlog.get_logger("scrapper")

_SECONDS_TO_CLOSE = 3.0
_MAX_CONNECTIONS = 64


def work(settings: Settings, scrubber: Scrubber) -> int:
    """Run until SIGTERM or SIGINT; return 0.

    *scrubber* removes secrets from the log. After a signal, the worker takes no more posts. It has
    ``WORKER_GRACE_SECONDS`` to finish the posts that it has taken, and returns the unfinished ones
    to the queue.

    Raises:
        SettingsError: a setting is invalid.
    """
    parts = assemble(settings)
    scrubber.follow(settings.secrets, lambda: parts.instagram.login.secrets)
    app = None
    if settings.worker_port is not None:
        app = create_worker_app(parts)
        keys = app[API_KEYS]
        scrubber.follow((), merged(lambda: parts.instagram.login.secrets, lambda: keys.secrets))
    asyncio.run(_work(parts, app))
    log.info("stopped")
    return 0


async def _work(parts: ServiceParts, app: web.Application | None) -> None:
    settings, fleet = parts.settings, cast(Fleet, parts.fleet)
    ended = on_signal(settings.worker_grace + _SECONDS_TO_CLOSE)
    async with AsyncExitStack() as running:
        receiver = await running.enter_async_context(working(parts))
        where = await running.enter_async_context(_monitored(parts, app)) if app else {}
        log.info(
            "working",
            worker=fleet.queue.name,
            redis=fleet.redis_address,
            queue=STREAM,
            posts_at_once=settings.scrape_concurrency,
            media_root=str(settings.media_root),
            plugins=[plugin.name for plugin in parts.plugins],
            **where,
        )
        await receiver.listen(ended)


@asynccontextmanager
async def _monitored(parts: ServiceParts, app: web.Application) -> AsyncIterator[dict[str, object]]:
    """Serve *app* on ``WORKER_PORT`` while the block runs; yield its host and port."""
    settings, loop = parts.settings, asyncio.get_running_loop()
    running = running_app(
        app,
        parts.metrics,
        max_connections=_MAX_CONNECTIONS,
        head_timeout=settings.client_timeout_seconds,
        grace=_SECONDS_TO_CLOSE,
    )
    async with running as connect:
        listener = tcp_listener(settings.host, settings.worker_port or 0, "WORKER_PORT")
        server = await loop.create_server(connect, sock=listener)
        host, port, *_ = listener.getsockname()
        yield {"host": host, "port": port}
        server.close()
