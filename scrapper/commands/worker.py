"""``python -m scrapper worker``: runs the jobs that replicas of the service took."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver

from scrapper.instagram.client import Instagram
from scrapper.instagram.login.file import LoginFile
from scrapper.jobs.webhooks import delivering
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.plugins.following import Followers
from scrapper.plugins.ledger import LEDGER, Ledger
from scrapper.plugins.loading import Plugins
from scrapper.replicas.fleet import Fleet
from scrapper.replicas.post_runner import PostRunner
from scrapper.scraping.scraper import Scraper
from scrapper.settings import Settings
from scrapper.telemetry.logs import logs_to
from scrapper.telemetry.metrics import Metrics

__all__ = ["WorkerParts", "work", "worker"]

log = structlog.get_logger("scrapper")

_SHUTDOWN_GRACE = 5.0


class WorkerParts(NamedTuple):
    """The parts of a worker."""

    metrics: Metrics
    fleet: Fleet
    instagram: Instagram
    root: MediaRoot
    plugins: Plugins

    @classmethod
    def from_settings(cls, settings: Settings) -> "WorkerParts":
        """The parts that *settings* describe.

        Raises:
            SettingsError: the session file holds no session, or a process that does not share
                the media folder uses it.
        """
        metrics = Metrics()
        plugins = Plugins.from_settings(settings)
        fleet = Fleet(settings, metrics, plugins.job_followers)
        root = MediaRoot(settings.media_root, shared=True)
        root.open()
        instagram = Instagram.from_settings(
            settings,
            on_request=metrics.count_instagram_request,
            make_pace=fleet.make_pace,
            login_file=LoginFile(root.state / "login.json", check=root.check),
            documents=fleet.documents,
            more_sources=plugins.sources(settings),
        )
        return cls(metrics, fleet, instagram, root, plugins)


def work(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return 0.

    After a signal the worker takes no further post, and finishes the ones that it has within the
    deadline of a scrape.

    Raises:
        SettingsError: the session file holds no session.
    """
    parts = WorkerParts.from_settings(settings)
    with logs_to(
        sys.stdout,
        level=settings.log_level,
        style=settings.log_format,
        secrets=settings.secrets,
        more_secrets=lambda: parts.instagram.login.secrets,
    ):
        asyncio.run(_work(settings, parts))
        log.info("stopped")
    return 0


async def _work(settings: Settings, parts: WorkerParts) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with worker(settings, parts) as receiver:
        log.info("working", media_root=str(settings.media_root))
        await receiver.listen(ended)


@asynccontextmanager
async def worker(settings: Settings, parts: WorkerParts) -> AsyncIterator[Receiver]:
    """A receiver that, once it listens, runs ``SCRAPE_CONCURRENCY`` posts at a time."""
    # It logs each message; we log each failure.
    logging.getLogger("taskiq").setLevel(logging.WARNING)
    metrics, fleet, instagram, root, plugins = parts
    library = Library.from_settings(settings, root)
    await library.open()
    await fleet.open()
    scraper = Scraper.from_settings(settings, library, instagram, metrics, fleet.peers)
    runner = PostRunner(
        fleet.job_store,
        scraper,
        fleet.queue,
        fleet.backlog,
        patience=settings.job_patience_seconds,
    )
    fleet.queue.on_post(runner.fetch)
    followers = Followers.from_settings(
        settings,
        plugins,
        library,
        Ledger(root.state / LEDGER),
        metrics,
        fleet.peers,
        fleet.finished_jobs,
    )
    await followers.begin()
    try:
        async with delivering(fleet.deliveries, settings, metrics), followers.running():
            yield Receiver(
                fleet.queue,
                max_async_tasks=settings.scrape_concurrency,
                ack_type=AcknowledgeType.MANUAL,
                wait_tasks_timeout=settings.scrape_timeout_seconds + _SHUTDOWN_GRACE,
            )
    finally:
        await scraper.close()
        await fleet.close()
        await library.close()
        instagram.close()
        root.close()
