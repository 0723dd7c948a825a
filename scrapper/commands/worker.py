"""``python -m scrapper worker``: runs the jobs that replicas of the service took."""

import asyncio

import structlog

from scrapper.assembly import ServiceParts, assemble, working
from scrapper.settings import Settings
from scrapper.tasks import on_signal
from scrapper.telemetry.logs import Scrubber

__all__ = ["work"]

log = structlog.get_logger("scrapper")

_SHUTDOWN_GRACE = 5.0
_SECONDS_TO_CLOSE = 3.0


def work(settings: Settings, scrubber: Scrubber) -> int:
    """Run until SIGTERM or SIGINT; return 0. *scrubber* removes secrets from the log.

    After a signal the worker takes no further post, and finishes the ones that it has within the
    deadline of a scrape.

    Raises:
        SettingsError: some are wrong.
    """
    parts = assemble(settings)
    scrubber.follow(settings.secrets, lambda: parts.instagram.login.secrets)
    asyncio.run(_work(parts))
    log.info("stopped")
    return 0


async def _work(parts: ServiceParts) -> None:
    seconds = parts.settings.scrape_timeout_seconds
    ended = on_signal(seconds + _SHUTDOWN_GRACE + _SECONDS_TO_CLOSE)
    async with working(parts) as receiver:
        log.info("working", media_root=str(parts.settings.media_root))
        await receiver.listen(ended)
