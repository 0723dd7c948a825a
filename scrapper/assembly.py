"""The one place where the parts of a process are put together, opened and closed."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast, get_args

from scrapper.instagram.client import Instagram
from scrapper.instagram.login.file import LoginFile, State
from scrapper.instagram.pace_file import PaceFile
from scrapper.instagram.sources import Source
from scrapper.jobs.backlog import Backlog
from scrapper.jobs.contract import Jobs
from scrapper.jobs.local import LocalJobs
from scrapper.jobs.sqlite_store import JobStore
from scrapper.jobs.webhooks import delivering
from scrapper.library.clock import ClockWatch
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.library.sweeper import sweeping
from scrapper.plugins.finished_jobs import LocalFinishedJobs
from scrapper.plugins.following import Followed, Followers
from scrapper.plugins.ledger import LEDGER, Ledger
from scrapper.plugins.loading import Plugins
from scrapper.scraping.peers import Alone, Peers
from scrapper.scraping.scraper import Scraper
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from taskiq.receiver import Receiver

    from scrapper.replicas.fleet import Fleet

__all__ = [
    "Parts",
    "PluginParts",
    "ServiceParts",
    "assemble",
    "assemble_fetch",
    "assemble_login",
    "assemble_plugins",
    "serving",
    "working",
]

_SHUTDOWN_GRACE = 5.0


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
    """The parts of the service and of a worker; ``fleet`` is None without other processes."""

    plugins: Plugins
    fleet: "Fleet | None"
    peers: Peers
    followers: Followers
    own_ends: LocalFinishedJobs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginParts:
    """The plugins, and what they are told of; nothing is open yet."""

    settings: Settings
    plugins: Plugins
    root: MediaRoot
    followed: Followed


def assemble(settings: Settings) -> ServiceParts:
    """The parts of the service, or of a worker; blocking. The media folder is open.

    Raises:
        SettingsError: ``INSTAGRAM_SESSION_FILE`` holds no session, a plugin cannot be made, or
            another process uses the media folder.
    """
    metrics, plugins = Metrics(), Plugins.from_settings(settings)
    fleet = _fleet(settings, metrics, plugins)
    peers = fleet.peers if fleet else Alone()
    root = MediaRoot(settings.media_root, shared=peers.shared)
    root.open()
    library = Library.from_settings(settings, root)
    instagram = _instagram(settings, root, metrics, fleet, plugins.sources(settings))
    metrics.follow_login(lambda: instagram.login.state.state, get_args(State))
    metrics.follow_pace({name: pace.allowed_now for name, pace in instagram.paces.items()})
    ledger = Ledger(root.state / LEDGER)
    own_ends = None if fleet else LocalFinishedJobs(ledger, plugins.job_followers)
    followed = Followed(
        library=library,
        ledger=ledger,
        metrics=metrics,
        peers=peers,
        timeout=settings.plugin_timeout_seconds,
        jobs=fleet.finished_jobs if fleet else own_ends,
    )
    return ServiceParts(
        settings=settings,
        metrics=metrics,
        root=root,
        library=library,
        instagram=instagram,
        scraper=Scraper.from_settings(settings, library, instagram, metrics, peers),
        plugins=plugins,
        fleet=fleet,
        peers=peers,
        followers=Followers(plugins.followers, followed),
        own_ends=own_ends,
    )


def assemble_fetch(settings: Settings) -> Parts:
    """The parts of ``fetch``, which leaves nothing but posts in the folder; blocking.

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
        scraper=Scraper.from_settings(settings, library, instagram, metrics, Alone()),
    )


def assemble_login(settings: Settings) -> Instagram:
    """A client with the login of the service at ``MEDIA_ROOT``, which may run meanwhile."""
    root = MediaRoot(settings.media_root)
    root.state.mkdir(parents=True, exist_ok=True)
    return _instagram(settings, root, Metrics())


def assemble_plugins(settings: Settings, *, pauses: Sequence[float]) -> PluginParts:
    """The parts of ``plugins``: what a plugin fails with is tried again after each of the *pauses*.

    Raises:
        SettingsError: a plugin cannot be made.
    """
    # Nobody else may use it meanwhile, with Redis or without.
    root = MediaRoot(settings.media_root)
    followed = Followed(
        library=Library(root.path, check=root.check),
        ledger=Ledger(root.state / LEDGER),
        metrics=Metrics(),
        peers=Alone(),
        timeout=settings.plugin_timeout_seconds,
        pauses=pauses,
    )
    plugins = Plugins.from_settings(settings)
    return PluginParts(settings=settings, plugins=plugins, root=root, followed=followed)


@asynccontextmanager
async def serving(parts: ServiceParts) -> AsyncIterator[Jobs]:
    """Run the service's parts while the block runs, and close them at its end; give the jobs."""
    async with _running(parts) as new_plugins, _jobs(parts, new_plugins) as jobs, _sweeping(parts):
        yield jobs


@asynccontextmanager
async def working(parts: ServiceParts) -> AsyncIterator["Receiver"]:
    """A receiver that, once it listens, runs ``SCRAPE_CONCURRENCY`` posts at a time."""
    # Only a process with Redis has the packages for it.
    from taskiq.acks import AcknowledgeType  # noqa: PLC0415
    from taskiq.receiver import Receiver  # noqa: PLC0415

    from scrapper.replicas.post_runner import PostRunner  # noqa: PLC0415

    # It logs each message; we log each failure.
    logging.getLogger("taskiq").setLevel(logging.WARNING)
    settings, fleet = parts.settings, cast("Fleet", parts.fleet)
    runner = PostRunner(
        fleet.job_store,
        parts.scraper,
        fleet.queue,
        fleet.backlog,
        patience=settings.job_patience_seconds,
    )
    fleet.queue.on_post(runner.fetch)
    async with _running(parts), delivering(fleet.deliveries, settings, parts.metrics):
        yield Receiver(
            fleet.queue,
            max_async_tasks=settings.scrape_concurrency,
            ack_type=AcknowledgeType.MANUAL,
            wait_tasks_timeout=settings.scrape_timeout_seconds + _SHUTDOWN_GRACE,
        )


@asynccontextmanager
async def _jobs(parts: ServiceParts, new_plugins: frozenset[str]) -> AsyncIterator[Jobs]:
    """The jobs: a single process runs them itself, and delivers their webhooks."""
    if parts.fleet:
        yield parts.fleet.jobs
        return
    settings, ends = parts.settings, parts.own_ends
    if ends:
        ends.wake, ends.new_plugins = parts.followers.wake, new_plugins
    jobs = LocalJobs(
        parts.scraper,
        JobStore(parts.root.state / "jobs.sqlite3"),
        backlog=Backlog(settings.seconds_a_query),
        patience=settings.job_patience_seconds,
        concurrency=settings.scrape_concurrency,
        max_jobs=settings.max_jobs,
        max_age=settings.max_job_age_seconds,
        ends=ends,
        check=parts.root.check,
    )
    await jobs.open()
    try:
        async with delivering(jobs, settings, parts.metrics):
            yield jobs
    finally:
        await jobs.close()


@asynccontextmanager
async def _running(parts: ServiceParts) -> AsyncIterator[frozenset[str]]:
    """Run what the service and a worker have in common; give the plugins that are new here."""
    async with AsyncExitStack() as opened:
        opened.callback(parts.root.close)
        opened.push_async_callback(parts.library.close)
        await parts.library.open()
        if parts.fleet:
            await parts.fleet.open()
            opened.push_async_callback(parts.fleet.close)
        new_plugins = await parts.followers.begin()
        await opened.enter_async_context(parts.followers.running())
        opened.callback(parts.instagram.close)
        opened.push_async_callback(parts.scraper.close)
        yield new_plugins


@asynccontextmanager
async def _sweeping(parts: ServiceParts) -> AsyncIterator[None]:
    settings, root = parts.settings, parts.root
    async with sweeping(
        parts.library,
        parts.metrics,
        turn=partial(parts.peers.exclusively, "sweep", in_doubt=True),
        clock_is_right=ClockWatch(root.state / "clock.json", check=root.check).is_right,
        max_age=settings.max_media_age_seconds,
        interval=settings.media_cleanup_interval_seconds,
        reserve=parts.scraper.reserve,
    ):
        yield


def _fleet(settings: Settings, metrics: Metrics, plugins: Plugins) -> "Fleet | None":
    if not settings.redis_url.get_secret_value():
        return None
    # A single process need not have the packages for it.
    from scrapper.replicas.fleet import Fleet  # noqa: PLC0415

    return Fleet(settings, metrics, plugins.job_followers)


def _instagram(
    settings: Settings,
    root: MediaRoot,
    metrics: Metrics,
    fleet: "Fleet | None" = None,
    more_sources: Sequence[Source] = (),
) -> Instagram:
    """A client that keeps its login, and what its pace learned."""
    return Instagram.from_settings(
        settings,
        on_request=metrics.count_instagram_request,
        make_pace=(fleet or PaceFile(root.state / "pace.json", check=root.check)).make_pace,
        login_file=LoginFile(root.state / "login.json", check=root.check),
        more_sources=more_sources,
    )
