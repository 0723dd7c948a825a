"""The HTTP application: its routes, and the request path, which is the chain of middlewares."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from middlewares.sending import sending
from scrapper.access.ended_sessions import EndedSessions
from scrapper.access.keys import ApiKeys
from scrapper.access.proxy import ProxySignIn
from scrapper.access.sessions import Sessions
from scrapper.assembly import ServiceParts, serving
from scrapper.handlers import resources
from scrapper.handlers.download_names import DownloadNames
from scrapper.handlers.event_feed import EventFeed
from scrapper.handlers.events import events
from scrapper.handlers.health import health, metrics, ready
from scrapper.handlers.job_feeds import JobFeeds
from scrapper.handlers.jobs import (
    cancel_job,
    create_job,
    get_job,
    job_events,
    list_jobs,
    retry_job,
)
from scrapper.handlers.login import delete_login, get_login, login_json, put_login
from scrapper.handlers.media import download, download_by_url, media
from scrapper.handlers.openapi import openapi
from scrapper.handlers.page import DOCS_FILES, PAGE_FILES, docs, page, to_page
from scrapper.handlers.posts import (
    bulk_change,
    delete_post,
    get_post,
    keep_post,
    list_posts,
    release_post,
)
from scrapper.handlers.scrape import scrape
from scrapper.handlers.session import begin_session, end_session
from scrapper.handlers.storage import storage
from scrapper.handlers.stream_limit import StreamLimit
from scrapper.handlers.thumbnails import thumbnail
from scrapper.jobs.webhooks import WebhookHosts
from scrapper.serving.base_path import BASE_PATH, BasePath, check_base_path
from scrapper.serving.request_path import OwnMiddlewares, check_path, request_path
from scrapper.serving.response_headers import add_headers
from scrapper.tasks import end, in_background

__all__ = ["create_app", "create_worker_app"]

_PARTS = web.AppKey("parts", ServiceParts)
_POLL_SECONDS = 1.0


def create_app(parts: ServiceParts) -> web.Application:
    """Create the service's aiohttp application, which runs and closes the *parts*.

    This function reads files, so do not call it in an event loop.

    Raises:
        SettingsError: a middleware or a plugin's route cannot be created, or the order of the
            middlewares is not safe.
    """
    settings = parts.settings
    app = _create_application(parts)
    app.cleanup_ctx.append(_run_parts)
    app.on_shutdown.append(_end_streams)
    app.add_routes(_ROUTES)
    check_base_path(settings.base_path, ["/openapi.json", *(route.path for route in _ROUTES)])
    # Some proxies do not strip the prefix from the path.
    if settings.base_path:
        app.add_routes(_routes_under(settings.base_path))
        app.router.add_get(settings.base_path, to_page)
    described = openapi()
    for prefix in dict.fromkeys(("", settings.base_path)):
        app.router.add_get(f"{prefix}/openapi.json", described)
    parts.plugins.add_routes(app, settings.base_path)
    return app


def create_worker_app(parts: ServiceParts) -> web.Application:
    """Create a worker's application: health, readiness and metrics behind the same middlewares.

    The caller runs the *parts*.

    Raises:
        SettingsError: as for :func:`create_app`.
    """
    app = _create_application(parts)
    app.add_routes(_MONITORING_ROUTES)
    return app


def _create_application(parts: ServiceParts) -> web.Application:
    """Create an application with the middlewares and the resources, but without routes."""
    settings, measured, plugins, fleet = parts.settings, parts.metrics, parts.plugins, parts.fleet
    keys, base_path, root = ApiKeys(settings), BasePath(settings), parts.root
    check_path(settings, needs_key=keys.needed)
    ended = EndedSessions(root.state / "sessions.json", check=root.check)
    ended.reload_if_changed()
    sessions = Sessions(keys, ended, shared=fleet is not None)
    proxy = ProxySignIn(settings)
    own = OwnMiddlewares(
        settings,
        measured,
        fleet=fleet,
        keys=keys,
        sessions=sessions,
        proxy=proxy,
        base_path=base_path,
    )
    app = web.Application(middlewares=[sending()])
    # The default request path, outermost first. MIDDLEWARES may change the order.
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
    app[_PARTS] = parts
    app[resources.CONVERSIONS] = {}
    app[resources.DOWNLOAD_NAMES] = DownloadNames(settings.download_name)
    app[resources.API_KEYS] = keys
    app[BASE_PATH] = base_path
    app[resources.SESSIONS] = sessions
    app[resources.PROXY] = proxy
    # Plugins may use the resources below.
    app[resources.SETTINGS] = settings.without_secrets()
    app[resources.WEBHOOK_HOSTS] = WebhookHosts.from_settings(settings)
    app[resources.METRICS] = measured
    app[resources.CHECKS] = {"redis": fleet.answers} if fleet else {}
    app[resources.MEDIA_ROOT] = root
    app[resources.LIBRARY] = parts.library
    app[resources.INSTAGRAM] = parts.instagram
    app[resources.SCRAPER] = parts.scraper
    app[resources.STREAMS] = StreamLimit()
    app.cleanup_ctx.append(_watch_files)
    app.on_response_prepare.append(add_headers)
    return app


_MONITORING_ROUTES = (
    web.get("/metrics", metrics),
    web.get("/health", health),
    web.get("/ready", ready),
)

_ROUTES = (
    web.post("/scrape", scrape),
    web.post("/jobs", create_job),
    web.get("/jobs", list_jobs),
    web.get("/jobs/{id}", get_job),
    web.post("/jobs/{id}/retry", retry_job),
    web.delete("/jobs/{id}", cancel_job),
    web.get("/jobs/{id}/events", job_events, allow_head=False),
    web.get("/events", events, allow_head=False),
    web.get("/storage", storage),
    web.get("/posts", list_posts),
    web.post("/posts/bulk", bulk_change),
    # Shortcodes have at least five characters, so "bulk" cannot be one.
    web.get("/posts/{shortcode:(?!bulk$)[^{}/]+}", get_post),
    web.delete("/posts/{shortcode:(?!bulk$)[^{}/]+}", delete_post),
    web.get("/posts/{shortcode}/thumbnail", thumbnail),
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
    *_MONITORING_ROUTES,
)


def _routes_under(prefix: str) -> list[web.RouteDef]:
    return [
        web.RouteDef(route.method, prefix + route.path, route.handler, route.kwargs)
        for route in _ROUTES
    ]


async def _run_parts(app: web.Application) -> AsyncIterator[None]:
    parts = app[_PARTS]
    async with serving(parts) as jobs:
        app[resources.JOBS], app[resources.JOB_FEEDS] = jobs, JobFeeds(jobs)
        login = parts.instagram.login
        feed = EventFeed(
            jobs,
            parts.library.post_changes,
            # As in GET /login, the login is hidden if no key is set.
            (lambda: login_json(login.state)) if app[resources.API_KEYS].needed else None,
        )
        app[resources.EVENTS] = feed
        yield
        await feed.close()


async def _watch_files(app: web.Application) -> AsyncIterator[None]:
    """Once a second, reload changed files (keys, login, sessions) and retake a lost folder lock."""

    def check_files() -> None:
        app[resources.API_KEYS].reload_if_changed()
        app[resources.INSTAGRAM].login.session()
        app[resources.SESSIONS].reload_if_changed()
        app[resources.MEDIA_ROOT].ensure_locked()

    async def watch() -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await asyncio.to_thread(check_files)

    watching = in_background(watch(), "watched files")
    yield
    await end(watching)


async def _end_streams(app: web.Application) -> None:
    app[resources.JOBS].closing = True
