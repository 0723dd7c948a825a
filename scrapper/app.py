"""The one place where the parts are put together."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, get_args

from aiohttp import web

from middlewares.sending import sending
from scrapper import __version__
from scrapper.access.keys import ApiKeys
from scrapper.access.sessions import Sessions
from scrapper.handlers.docs import DOCS_FILES, docs, openapi
from scrapper.handlers.health import health, ready
from scrapper.handlers.job_feeds import JobFeeds
from scrapper.handlers.jobs import cancel_job, create_job, get_job, job_events, retry_job
from scrapper.handlers.login import delete_login, get_login, put_login
from scrapper.handlers.media import download, download_by_url, media
from scrapper.handlers.metrics import metrics as metrics_page
from scrapper.handlers.page import PAGE_FILES, page
from scrapper.handlers.posts import (
    delete_post,
    get_post,
    keep_post,
    list_posts,
    release_post,
)
from scrapper.handlers.resources import (
    API_KEYS,
    CHECKS,
    CONVERSIONS,
    INSTAGRAM,
    JOB_FEEDS,
    JOBS,
    LIBRARY,
    MEDIA_ROOT,
    METRICS,
    SCRAPER,
    SESSIONS,
    SETTINGS,
    WEBHOOK_HOSTS,
)
from scrapper.handlers.scrape import scrape
from scrapper.handlers.session import begin_session, end_session
from scrapper.instagram.client import Instagram
from scrapper.instagram.documents import DocumentFile
from scrapper.instagram.login.file import LoginFile, State
from scrapper.instagram.pace_file import PaceFile
from scrapper.jobs.backlog import Backlog
from scrapper.jobs.local import LocalJobs
from scrapper.jobs.sqlite_store import JobStore
from scrapper.jobs.webhooks import WebhookHosts, delivering
from scrapper.library.clock import ClockWatch
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.library.sweeper import sweeping
from scrapper.plugins.finished_jobs import LocalFinishedJobs
from scrapper.plugins.following import Followers
from scrapper.plugins.ledger import LEDGER, Ledger
from scrapper.plugins.loading import Plugins
from scrapper.scraping.peers import Alone, Peers
from scrapper.scraping.scraper import Scraper
from scrapper.serving.base_path import BASE_PATH, BasePath
from scrapper.serving.request_path import OwnMiddlewares, check_path, request_path
from scrapper.serving.response_headers import add_headers
from scrapper.settings import Settings
from scrapper.tasks import end, in_background
from scrapper.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from scrapper.replicas.fleet import Fleet

__all__ = ["PLUGINS", "create_app"]

_SETTINGS = web.AppKey("all_settings", Settings)
PLUGINS = web.AppKey("plugins", Plugins)
_FINISHED_JOBS = web.AppKey("finished_jobs", LocalFinishedJobs)
_FLEET: web.AppKey["Fleet | None"] = web.AppKey("fleet")
_PEERS = web.AppKey("peers", Peers)
_SECONDS_BETWEEN_LOOKS = 1.0


def create_app(settings: Settings) -> web.Application:
    """The service as an aiohttp application.

    It reads files, so do not call it on an event loop.

    Raises:
        SettingsError: ``INSTAGRAM_SESSION_FILE`` holds no session, a middleware or plugin cannot
            be made, or the request path leaves a door open.
    """
    measured, keys = Metrics(), ApiKeys(settings)
    sessions, base_path = Sessions(keys), BasePath(settings)
    check_path(settings, keyed=keys.needed)
    plugins = Plugins.from_settings(settings)
    fleet = _make_fleet(settings, measured, plugins)
    own = OwnMiddlewares(
        settings, measured, fleet=fleet, keys=keys, sessions=sessions, base_path=base_path
    )
    app = web.Application(middlewares=[sending()])
    # The request path, outermost first; MIDDLEWARES may have another order.
    path = {
        "request_context": own.request_context,
        "metrics": own.metrics,
        "errors": own.errors,
        "browser_guard": own.browser_guard,
        "body_size": own.body_size,
        "rate_limit": own.rate_limit,
        "api_key": own.api_key,
    }
    app.middlewares.extend(request_path(settings, app, path, plugins.middlewares(settings)))
    app[PLUGINS] = plugins
    app[_SETTINGS] = settings
    app[CONVERSIONS] = {}
    app[API_KEYS] = keys
    app[BASE_PATH] = base_path
    app[SESSIONS] = sessions
    # Plugins see these.
    app[SETTINGS] = settings.without_secrets()
    app[WEBHOOK_HOSTS] = WebhookHosts.from_settings(settings)
    app[METRICS] = measured
    app[_FLEET] = fleet
    app[_PEERS] = fleet.peers if fleet else Alone()
    app[CHECKS] = {"redis": fleet.answers} if fleet else {}
    app[MEDIA_ROOT] = root = MediaRoot(settings.media_root, shared=fleet is not None)
    root.open()
    app[LIBRARY] = Library.from_settings(settings, root)
    app[INSTAGRAM] = instagram = Instagram.from_settings(
        settings,
        on_request=measured.count_instagram_request,
        make_pace=(fleet or PaceFile(root.state / "pace.json", check=root.check)).make_pace,
        login_file=LoginFile(root.state / "login.json", check=root.check),
        documents=fleet.documents
        if fleet
        else DocumentFile(root.state / "documents.json", check=root.check),
        more_sources=plugins.sources(settings),
    )
    measured.follow_login(lambda: instagram.login.state.state, get_args(State))
    measured.follow_pace({name: pace.allowed_now for name, pace in instagram.paces.items()})
    app.cleanup_ctx.extend(
        [_follow_keys, _open_library, _fleet, _followers, _scraper, _jobs, _sweeper]
    )
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(_end_streams)
    app.add_routes(_ROUTES)
    # Some proxies pass the prefix on.
    if settings.base_path:
        app.add_routes(_under(settings.base_path))
    described = openapi(
        version=__version__, keyed=keys.needed, max_url_length=settings.max_url_length
    )
    for prefix in dict.fromkeys(("", settings.base_path)):
        app.router.add_get(f"{prefix}/openapi.json", described)
    plugins.add_routes(app, settings.base_path)
    return app


_ROUTES = (
    web.post("/scrape", scrape),
    web.post("/jobs", create_job),
    web.get("/jobs/{id}", get_job),
    web.post("/jobs/{id}/retry", retry_job),
    web.delete("/jobs/{id}", cancel_job),
    web.get("/jobs/{id}/events", job_events, allow_head=False),
    web.get("/posts", list_posts),
    web.get("/posts/{shortcode}", get_post),
    web.delete("/posts/{shortcode}", delete_post),
    web.put("/posts/{shortcode}/keep", keep_post),
    web.delete("/posts/{shortcode}/keep", release_post),
    web.get("/media/{shortcode}/{filename}", media),
    web.get("/download", download_by_url, allow_head=False),
    web.get("/download/{shortcode}", download),
    web.get("/login", get_login),
    web.put("/login", put_login),
    web.delete("/login", delete_login),
    web.post("/session", begin_session),
    web.delete("/session", end_session),
    *(web.get(path, page) for path in PAGE_FILES),
    *(web.get(path, docs) for path in DOCS_FILES),
    web.get("/metrics", metrics_page),
    web.get("/health", health),
    web.get("/ready", ready),
)


def _under(prefix: str) -> list[web.RouteDef]:
    return [
        web.RouteDef(route.method, prefix + route.path, route.handler, route.kwargs)
        for route in _ROUTES
    ]


def _make_fleet(settings: Settings, measured: Metrics, plugins: Plugins) -> "Fleet | None":
    if not settings.redis_url.get_secret_value():
        return None
    # A single process need not have the packages for it.
    from scrapper.replicas.fleet import Fleet  # noqa: PLC0415

    return Fleet(settings, measured, plugins.job_followers)


async def _follow_keys(app: web.Application) -> AsyncIterator[None]:
    keys = app[API_KEYS]

    async def follow() -> None:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            await asyncio.to_thread(keys.look)

    following = in_background(follow(), "API keys") if keys.changing else None
    yield
    if following is not None:
        await end(following)


async def _open_library(app: web.Application) -> AsyncIterator[None]:
    try:
        await app[LIBRARY].open()
        yield
    finally:
        await app[LIBRARY].close()
        app[MEDIA_ROOT].close()


async def _fleet(app: web.Application) -> AsyncIterator[None]:
    fleet = app[_FLEET]
    if fleet:
        await fleet.open()
    yield
    if fleet:
        await fleet.close()


async def _followers(app: web.Application) -> AsyncIterator[None]:
    fleet, plugins, ledger = app[_FLEET], app[PLUGINS], Ledger(app[MEDIA_ROOT].state / LEDGER)
    local = LocalFinishedJobs(ledger, plugins.job_followers)
    followers = Followers.from_settings(
        app[SETTINGS],
        plugins,
        app[LIBRARY],
        ledger,
        app[METRICS],
        app[_PEERS],
        fleet.finished_jobs if fleet else local,
    )
    local.wake = followers.wake
    local.new_plugins = await followers.begin()
    app[_FINISHED_JOBS] = local
    async with followers.running():
        yield


async def _scraper(app: web.Application) -> AsyncIterator[None]:
    app[SCRAPER] = scraper = Scraper.from_settings(
        app[_SETTINGS], app[LIBRARY], app[INSTAGRAM], app[METRICS], app[_PEERS]
    )
    yield
    await scraper.close()
    app[INSTAGRAM].close()


async def _jobs(app: web.Application) -> AsyncIterator[None]:
    fleet, settings = app[_FLEET], app[_SETTINGS]
    if fleet:
        app[JOBS] = fleet.jobs
        app[JOB_FEEDS] = JobFeeds(fleet.jobs)
        yield
        return
    root = app[MEDIA_ROOT]
    app[JOBS] = jobs = LocalJobs(
        app[SCRAPER],
        JobStore(root.state / "jobs.sqlite3"),
        backlog=Backlog(settings.seconds_a_query),
        patience=settings.job_patience_seconds,
        concurrency=settings.scrape_concurrency,
        max_jobs=settings.max_jobs,
        max_age=settings.max_job_age_seconds,
        ends=app[_FINISHED_JOBS],
        check=root.check,
    )
    app[JOB_FEEDS] = JobFeeds(jobs)
    await jobs.open()
    async with delivering(jobs, settings, app[METRICS]):
        yield
    await jobs.close()


async def _end_streams(app: web.Application) -> None:
    app[JOBS].closing = True


async def _sweeper(app: web.Application) -> AsyncIterator[None]:
    settings, root = app[_SETTINGS], app[MEDIA_ROOT]
    async with sweeping(
        app[LIBRARY],
        app[METRICS],
        turn=partial(app[_PEERS].exclusively, "sweep", in_doubt=True),
        clock_is_right=ClockWatch(root.state / "clock.json", check=root.check).is_right,
        max_age=settings.max_media_age_seconds,
        interval=settings.media_cleanup_interval_seconds,
        reserve=app[SCRAPER].reserve,
    ):
        yield
