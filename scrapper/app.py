"""The one place where the parts are put together."""

from collections.abc import AsyncIterator, Iterator
from pkgutil import resolve_name

from aiohttp import web
from aiohttp.typedefs import Middleware

from middlewares.api_key import api_key
from middlewares.body_size import body_size
from middlewares.errors import errors
from middlewares.rate_limit import rate_limit
from middlewares.request_context import REQUEST_ID, request_context
from scrapper.errors import ANSWERS, SettingsError
from scrapper.handlers.health import health, ready
from scrapper.handlers.media import download, media
from scrapper.handlers.resources import LIBRARY, SCRAPER, SETTINGS
from scrapper.handlers.scrape import scrape
from scrapper.instagram import Instagram
from scrapper.library import Library
from scrapper.scraping import Scraper
from scrapper.settings import Settings
from scrapper.sweeper import sweeping

__all__ = ["INSTAGRAM", "create_app"]

INSTAGRAM = web.AppKey("instagram", Instagram)
"""Where the client for Instagram is kept; the handlers have the scraper instead."""

_SECONDS_A_DAY = 24 * 60 * 60
_FOR_MONITORS = frozenset({"/health", "/ready"})


def create_app(settings: Settings) -> web.Application:
    """The service as an aiohttp application.

    Reads files, so that an event loop should not call it.

    Raises:
        SettingsError: ``INSTAGRAM_SESSION_FILE`` holds no session, or one of
            ``EXTRA_MIDDLEWARES`` cannot be made.
    """
    app = web.Application(middlewares=_request_path(settings))
    app[SETTINGS] = settings
    app[LIBRARY] = Library(settings.media_root)
    app[INSTAGRAM] = Instagram(
        max_queries=settings.instagram_max_queries,
        window=settings.instagram_window_seconds,
        session_file=settings.instagram_session_file,
        username=settings.instagram_username,
    )
    app.cleanup_ctx.extend([_open_library, _scraper, _sweeper])
    app.router.add_post("/scrape", scrape)
    app.router.add_get("/download/{shortcode}", download)
    app.router.add_get("/media/{shortcode}/{filename}", media)
    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)
    return app


def _request_path(settings: Settings) -> list[Middleware]:
    """Everything a request passes on its way to a handler, outermost first."""
    limited, keyed = settings.rate_limit_max_requests > 0, bool(settings.key)
    return [
        request_context(trusted_proxies=settings.proxies),
        errors(ANSWERS, request_id=REQUEST_ID),
        body_size(settings.max_json_body_bytes),
        *(
            [
                rate_limit(
                    settings.rate_limit_max_requests,
                    settings.rate_limit_window_seconds,
                    max_clients=settings.rate_limit_max_ips,
                    exempt=_FOR_MONITORS,
                )
            ]
            if limited
            else []
        ),
        *([api_key(settings.key, exempt=_FOR_MONITORS)] if keyed else []),
        *_extras(settings),
    ]


def _extras(settings: Settings) -> Iterator[Middleware]:
    for name in settings.extra_middlewares:
        try:
            yield resolve_name(name)()
        # A user's own factory may raise anything.
        except Exception as error:
            raise SettingsError(f"EXTRA_MIDDLEWARES: {name!r} failed: {error!r}") from error


async def _open_library(app: web.Application) -> AsyncIterator[None]:
    await app[LIBRARY].open()
    yield


async def _scraper(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[SCRAPER] = scraper = Scraper(
        app[LIBRARY],
        app[INSTAGRAM].fetch,
        concurrency=settings.scrape_concurrency,
        queue_limit=settings.scrape_queue_limit,
        timeout=settings.scrape_timeout_seconds,
        cooldown=settings.instagram_cooldown_seconds,
    )
    yield
    await scraper.close()
    app[INSTAGRAM].close()


async def _sweeper(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    async with sweeping(
        app[LIBRARY],
        max_age=settings.max_media_age_days * _SECONDS_A_DAY,
        interval=settings.media_cleanup_interval_seconds,
        keep=app[SCRAPER].is_scraping,
    ):
        yield
