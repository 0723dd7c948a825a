"""Creates, opens and closes the parts of a process, for all commands."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast, get_args

from scrapper.instagram.client import Instagram
from scrapper.instagram.documents import DocumentFile
from scrapper.instagram.login.file import LoginFile, State
from scrapper.instagram.pace import PaceFile
from scrapper.instagram.sources import Source
from scrapper.jobs.engine import Jobs, running
from scrapper.jobs.runner import Runner
from scrapper.jobs.stores.sqlite import JobFile, SqliteStore
from scrapper.jobs.waiting import Patience
from scrapper.jobs.webhooks import delivering
from scrapper.library.clock import ClockWatch
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.library.sweeper import sweeping
from scrapper.plugins.conditions import Conditions
from scrapper.plugins.follower import Followed, Followers, Pauses
from scrapper.plugins.ledger import LEDGER, Ledger
from scrapper.plugins.loading import Plugins
from scrapper.scraping.peers import Peers
from scrapper.scraping.refusals import Refusals
from scrapper.scraping.scraper import Scraper
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from taskiq.receiver import Receiver

    from scrapper.jobs.stores.redis import RedisStore
    from scrapper.replicas.fleet import Fleet

__all__ = [
    "Parts",
    "PluginParts",
    "ServiceParts",
    "assemble",
    "assemble_doctor",
    "assemble_fetch",
    "assemble_login",
    "assemble_plugins",
    "serving",
    "working",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a process that downloads posts."""

    settings: Settings
    metrics: Metrics
    root: MediaRoot
    library: Library
    instagram: Instagram
    scraper: Scraper


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts(Parts):
    """The parts of the service or of a worker; ``fleet`` is None if Redis is not used."""

    plugins: Plugins
    fleet: "Fleet | None"
    peers: Peers
    followers: Followers
    clock: ClockWatch
    jobs: "SqliteStore | RedisStore"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginParts:
    """The plugins and what they follow, with no files opened yet."""

    settings: Settings
    plugins: Plugins
    root: MediaRoot
    followed: Followed


def assemble(settings: Settings) -> ServiceParts:
    """Create the parts of the service or of a worker, and open the media folder. This blocks.

    Raises:
        SettingsError: ``INSTAGRAM_SESSION_FILE`` contains no session, a plugin cannot be created,
            or another process is using the media folder.
    """
    metrics, plugins = Metrics(), Plugins.from_settings(settings)
    fleet = _fleet(settings, metrics)
    peers = fleet.peers if fleet else Peers()
    root = MediaRoot(settings.media_root, shared=peers.shared)
    root.open()
    library = Library.from_settings(settings, root, fleet.post_changes if fleet else None)
    instagram = _instagram(settings, root, metrics, fleet, plugins.sources(settings))
    metrics.export_login(lambda: instagram.login.state.state, get_args(State))
    metrics.export_pace({name: pace.allowed_now for name, pace in instagram.paces.items()})
    clock = ClockWatch(root.state / "clock.json", check=root.check)
    refusals = Refusals(root.state / "refusals.json", check=root.check)
    reported = plugins.job_followers
    jobs = (
        _shared_store(settings, fleet, reported)
        if fleet
        else _own_store(settings, root, clock, reported)
    )
    followed = Followed(
        library=library,
        ledger=Ledger(root.state / LEDGER, check=root.check),
        metrics=metrics,
        peers=peers,
        timeout=settings.plugin_timeout_seconds,
        jobs=jobs,
        conditions=Conditions(settings, instagram.login, refusals),
    )
    return ServiceParts(
        settings=settings,
        metrics=metrics,
        root=root,
        library=library,
        instagram=instagram,
        scraper=Scraper.from_settings(
            settings, library, instagram, metrics, peers, refusals=refusals
        ),
        plugins=plugins,
        fleet=fleet,
        peers=peers,
        followers=Followers(plugins.followers, followed),
        clock=clock,
        jobs=jobs,
    )


def assemble_fetch(settings: Settings) -> Parts:
    """Create the parts of ``fetch``, which stores posts, but no state. This blocks.

    Raises:
        SettingsError: as for :func:`assemble`.
    """
    metrics, root = Metrics(), MediaRoot(settings.media_root, shared=True)
    root.open()
    library, instagram = Library(root.path), Instagram.from_settings(settings)
    return Parts(
        settings=settings,
        metrics=metrics,
        root=root,
        library=library,
        instagram=instagram,
        scraper=Scraper.from_settings(settings, library, instagram, metrics, Peers()),
    )


def assemble_doctor(settings: Settings) -> Instagram:
    """Create a client like that of the service at ``MEDIA_ROOT``. The service may be running.

    Raises:
        SettingsError: as for :func:`assemble`.
    """
    root, sources = MediaRoot(settings.media_root), Plugins.from_settings(settings).sources
    return _instagram(settings, root, Metrics(), extra_sources=sources(settings))


def assemble_login(settings: Settings) -> Instagram:
    """Create a client that shares the login of the service at ``MEDIA_ROOT``.

    The service may be running.

    Raises:
        SettingsError: the folder cannot be created.
    """
    root = MediaRoot(settings.media_root)
    root.create()
    return _instagram(settings, root, Metrics())


def assemble_plugins(settings: Settings, *, pauses: Pauses) -> PluginParts:
    """Create the parts of the ``plugins`` command, which retries failed calls after the *pauses*.

    Raises:
        SettingsError: a plugin cannot be created.
    """
    # No other process may use the folder at the same time, even with Redis.
    root = MediaRoot(settings.media_root)
    followed = Followed(
        library=Library(root.path, check=root.check),
        ledger=Ledger(root.state / LEDGER),
        metrics=Metrics(),
        peers=Peers(),
        timeout=settings.plugin_timeout_seconds,
        pauses=pauses,
    )
    plugins = Plugins.from_settings(settings)
    return PluginParts(settings=settings, plugins=plugins, root=root, followed=followed)


@asynccontextmanager
async def serving(parts: ServiceParts) -> AsyncIterator[Jobs]:
    """Run the service's parts during the block, then close them; yield the jobs.

    Without Redis, this process also downloads the posts of jobs and delivers webhooks.
    """
    settings, store = parts.settings, parts.jobs
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(_running(parts))
        if isinstance(store, SqliteStore):
            work = running(store, _runner(parts), settings.scrape_concurrency)
            await opened.enter_async_context(work)
            await opened.enter_async_context(delivering(store, settings, parts.metrics))
        await opened.enter_async_context(_sweeping(parts))
        yield Jobs(store)


@asynccontextmanager
async def working(parts: ServiceParts) -> AsyncIterator["Receiver"]:
    """Yield a receiver, which downloads up to ``SCRAPE_CONCURRENCY`` posts at once.

    At the end of the block, unfinished posts return to the queue.
    """
    # These packages are installed only for Redis.
    from taskiq.acks import AcknowledgeType  # noqa: PLC0415
    from taskiq.receiver import Receiver  # noqa: PLC0415

    from scrapper.jobs.stores.redis_deliveries import RedisDeliveries  # noqa: PLC0415

    # At lower levels, taskiq logs every message. We log every failure ourselves.
    logging.getLogger("taskiq").setLevel(logging.WARNING)
    settings, fleet, store = (
        parts.settings,
        cast("Fleet", parts.fleet),
        cast("RedisStore", parts.jobs),
    )
    fleet.queue.on_post(_runner(parts, stopping=lambda: fleet.queue.stopping).run)
    deliveries = RedisDeliveries(fleet.redis, store)
    async with (
        _running(parts),
        store.releasing(),
        delivering(deliveries, settings, parts.metrics),
    ):
        try:
            yield Receiver(
                fleet.queue,
                max_async_tasks=settings.scrape_concurrency,
                ack_type=AcknowledgeType.MANUAL,
                wait_tasks_timeout=settings.worker_grace,
            )
        finally:
            if fleet.queue.holds_posts:
                # While this process has the turns for these posts, others cannot download them.
                await parts.scraper.abort()
            await fleet.queue.hand_back()


def _runner(parts: ServiceParts, *, stopping: Callable[[], bool] = lambda: False) -> Runner:
    seconds = parts.settings.job_patience_seconds
    patience = Patience(seconds, clock_is_trusted=parts.clock.is_trusted)
    return Runner(parts.jobs, parts.scraper, patience, stopping=stopping)


def _own_store(
    settings: Settings, root: MediaRoot, clock: ClockWatch, plugins: Sequence[str]
) -> SqliteStore:
    """Create the store for the jobs of a single process."""
    return SqliteStore(
        JobFile(root.state / "jobs.sqlite3", check=root.check),
        patience=settings.job_patience_seconds,
        check=root.check,
        max_jobs=settings.max_jobs,
        max_age=settings.max_job_age_seconds,
        spacing=settings.seconds_per_query,
        plugins=plugins,
        clock_is_trusted=clock.is_trusted,
    )


def _shared_store(settings: Settings, fleet: "Fleet", plugins: Sequence[str]) -> "RedisStore":
    """Create the store for the jobs that all processes share."""
    from scrapper.jobs.stores.redis import RedisStore  # noqa: PLC0415

    return RedisStore(
        fleet.redis,
        fleet.queue,
        max_jobs=settings.max_jobs,
        max_age=settings.max_job_age_seconds,
        spacing=settings.seconds_per_query,
        plugins=plugins,
    )


@asynccontextmanager
async def _running(parts: ServiceParts) -> AsyncIterator[None]:
    """Run the parts that the service and a worker have in common."""
    async with AsyncExitStack() as opened:
        opened.callback(parts.root.close)
        opened.push_async_callback(parts.library.close)
        await parts.library.open()
        if parts.fleet:
            await parts.fleet.open()
            opened.push_async_callback(parts.fleet.close)
        await parts.followers.begin()
        await opened.enter_async_context(parts.followers.running())
        opened.callback(parts.instagram.close)
        opened.push_async_callback(parts.scraper.close)
        yield


def _sweeping(parts: ServiceParts) -> AbstractAsyncContextManager[None]:
    settings = parts.settings
    return sweeping(
        parts.library,
        parts.metrics,
        turn=partial(parts.peers.exclusive, "sweep", if_unknown=True),
        clock_is_trusted=parts.clock.is_trusted,
        max_age=settings.max_media_age_seconds,
        interval=settings.media_cleanup_interval_seconds,
        reserve=parts.scraper.reserve,
    )


def _fleet(settings: Settings, metrics: Metrics) -> "Fleet | None":
    if not settings.redis_url.get_secret_value():
        return None
    # A single process need not have the Redis packages installed.
    from scrapper.replicas.fleet import Fleet  # noqa: PLC0415

    return Fleet(settings, metrics)


def _instagram(
    settings: Settings,
    root: MediaRoot,
    metrics: Metrics,
    fleet: "Fleet | None" = None,
    extra_sources: Sequence[Source] = (),
) -> Instagram:
    """Create a client that stores its login, its query documents and its learned pace."""
    return Instagram.from_settings(
        settings,
        on_request=metrics.count_instagram_request,
        make_pace=(fleet or PaceFile(root.state / "pace.json", check=root.check)).make_pace,
        login_file=LoginFile(root.state / "login.json", check=root.check),
        documents=fleet.documents
        if fleet
        else DocumentFile(root.state / "documents.json", check=root.check),
        extra_sources=extra_sources,
    )
