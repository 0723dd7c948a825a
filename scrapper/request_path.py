"""The request path: everything a request passes on its way to a handler."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from structlog.contextvars import bind_contextvars

from middlewares.api_key import api_key
from middlewares.body_size import body_size
from middlewares.browser_guard import browser_guard
from middlewares.errors import errors
from middlewares.metrics import metrics
from middlewares.rate_limit import rate_limit
from middlewares.request_context import REQUEST_ID, request_context
from scrapper.api_keys import ApiKeys
from scrapper.base_path import BasePath
from scrapper.errors import RESPONSES, SettingsError
from scrapper.handlers.docs import DOCS_FILES
from scrapper.handlers.jobs import tokens_of_a_batch
from scrapper.handlers.page import PAGE_FILES
from scrapper.handlers.request_bodies import MAX_WEBHOOK_LENGTH, MOST_URLS
from scrapper.instagram.cookies_file import MAX_COOKIES_BYTES
from scrapper.sessions import Sessions
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from scrapper.replicas.fleet import Fleet

__all__ = ["request_path"]

_FREE_PATHS = frozenset({"/health", "/ready", "/openapi.json", *PAGE_FILES, *DOCS_FILES})
_READS = ("/jobs", "/posts", "/media", "/download", "/login", "/metrics")
_BY_URL = "/download"
_READING = (hdrs.METH_GET, hdrs.METH_HEAD)
_READS_A_TOKEN = 10
# A wrong key costs ten tokens in all, so that guessing ends soon.
_PENALTIES = {401: 9}

Test = Callable[[web.Request], bool]


def request_path(
    settings: Settings,
    measured: Metrics,
    *,
    fleet: "Fleet | None",
    keys: ApiKeys,
    sessions: Sessions,
    base_path: BasePath,
) -> list[Middleware]:
    """Everything a request passes on its way to a handler, outermost first."""

    def is_free(request: web.Request) -> bool:
        """Whether the request needs no key and costs no token."""
        return base_path.own_path(request) in _FREE_PATHS

    def only_reads(request: web.Request) -> bool:
        path = base_path.own_path(request)
        return request.method in _READING and path.startswith(_READS) and path != _BY_URL

    return [
        request_context(trusted_proxies=settings.proxies),
        metrics(measured.registry),
        errors(RESPONSES, request_id=REQUEST_ID),
        browser_guard(
            hosts=_hosts(settings, keys),
            exempt=lambda request: base_path.own_path(request) == "/health",
            changes=lambda request: base_path.own_path(request) == _BY_URL,
        ),
        body_size(settings.max_json_body_bytes, by_path=_larger_bodies(settings)),
        *_rate_limits(settings, measured, fleet, keys, is_free, only_reads),
        *_key_checks(keys, sessions, is_free),
        *_extras(settings),
    ]


def _rate_limits(  # noqa: PLR0917 - each is of another type
    settings: Settings,
    measured: Metrics,
    fleet: "Fleet | None",
    keys: ApiKeys,
    is_free: Test,
    only_reads: Test,
) -> Iterator[Middleware]:
    """Two buckets a client: one for requests that make work, a larger one for those that read.

    With one bucket, a list of previews or a look at a job would use up the downloads.
    """
    most, window = settings.rate_limit_max_requests, settings.rate_limit_window_seconds
    if most:
        clients = settings.rate_limit_max_ips
        redis = fleet.scripts if fleet else None
        yield rate_limit(
            most,
            window,
            max_clients=clients,
            redis=redis,
            name="scrapper:work",
            own_limit=keys.own_limit,
            penalties=_PENALTIES,
            exempt=lambda request: is_free(request) or only_reads(request),
            cost=tokens_of_a_batch,
            on_refusal=measured.rejections.labels("work").inc,
        )
        yield rate_limit(
            most * _READS_A_TOKEN,
            window,
            max_clients=clients,
            redis=redis,
            name="scrapper:reads",
            own_limit=lambda request: _for_reads(keys.own_limit(request)),
            penalties=_PENALTIES,
            exempt=lambda request: not only_reads(request),
            on_refusal=measured.rejections.labels("reads").inc,
        )


def _for_reads(limit: tuple[str, int] | None) -> tuple[str, int] | None:
    return limit and (limit[0], limit[1] * _READS_A_TOKEN)


def _key_checks(keys: ApiKeys, sessions: Sessions, is_free: Test) -> Iterator[Middleware]:
    if keys.needed:
        yield api_key(keys.names, exempt=is_free, stands_in=sessions.name_of, on_admission=_name)


def _name(key: str) -> None:
    """Put the name of the request's key into its lines in the log."""
    bind_contextvars(key=key)


def _hosts(settings: Settings, keys: ApiKeys) -> Sequence[str] | None:
    """The names under which the service answers; None for all. A key guards against rebinding."""
    return None if keys.needed and not settings.allowed_hosts else settings.allowed_hosts


def _larger_bodies(settings: Settings) -> Mapping[str, int]:
    """Bytes of the largest body, for paths that take larger ones than others."""
    batch = MOST_URLS * (settings.max_url_length + 16) + MAX_WEBHOOK_LENGTH + 128
    sizes = {
        "/jobs": max(settings.max_json_body_bytes, batch),
        "/login": max(settings.max_json_body_bytes, MAX_COOKIES_BYTES),
    }
    return {
        prefix + path: size for prefix in ("", settings.base_path) for path, size in sizes.items()
    }


def _extras(settings: Settings) -> Iterator[Middleware]:
    for name in settings.extra_middlewares:
        try:
            yield resolve_name(name)()
        # A user's own factory may raise anything.
        except Exception as error:
            raise SettingsError(f"EXTRA_MIDDLEWARES: {name!r} failed: {error!r}") from error
