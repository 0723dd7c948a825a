"""Assembles the request path: the middlewares that a request passes through before it reaches its
handler.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

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
from scrapper.access.keys import ApiKeys, Key
from scrapper.access.proxy import ProxySignIn, gateways
from scrapper.access.sessions import Sessions
from scrapper.errors import RESPONSES, SettingsError
from scrapper.handlers.clients import sender_of
from scrapper.handlers.jobs import batch_tokens, cancel_job
from scrapper.handlers.media import CONVERSION_NAMES
from scrapper.handlers.page import DOCS_FILES, PAGE_FILES
from scrapper.handlers.posts import bulk_change, delete_post, keep_post, release_post
from scrapper.handlers.request_bodies import MAX_SHORTCODES, MAX_URLS, MAX_WEBHOOK_LENGTH
from scrapper.handlers.thumbnails import thumbnail
from scrapper.instagram.login.cookies import MAX_COOKIES_BYTES
from scrapper.serving.base_path import BasePath
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from scrapper.replicas.fleet import Fleet

__all__ = ["OwnMiddlewares", "check_path", "path_names", "path_warnings", "request_path"]

_FREE_PATHS = frozenset({"/health", "/ready", "/openapi.json", *PAGE_FILES, *DOCS_FILES})
_READS = ("/events", "/jobs", "/posts", "/storage", "/login", "/metrics")
_FILES = ("/media", "/download")
_CHEAP_CHANGES = (bulk_change, cancel_job, delete_post, keep_post, release_post)
_BY_URL = "/download"
_READING = (hdrs.METH_GET, hdrs.METH_HEAD)
_READS_PER_TOKEN = 10
# A wrong key costs ten tokens in total, to slow down guessing.
_PENALTIES = {401: 9}
# These middlewares refuse requests by raising exceptions, which only `errors` turns into JSON.
_REFUSE_BY_EXCEPTION = ("browser_guard", "body_size", "rate_limit", "api_key")
_RISKS_WITHOUT = {
    "request_context": "requests have no ID and no access log, and X-Forwarded-For is ignored",
    "errors": "errors are not JSON, and every refusal by Instagram is a 500",
    "browser_guard": "pages of other sites can use the service through a visitor's browser",
    "rate_limit": "clients may send as many requests as they like",
    "body_size": "bodies may be up to 1 MiB, regardless of MAX_JSON_BODY_BYTES",
}

Bucket = Literal["work", "reads", "files"]
Factory = Callable[..., Any]
Make = Callable[[], Iterable[Middleware]]


def path_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the middlewares in the request path, outermost first."""
    return (*settings.middlewares, *settings.extra_middlewares)


def check_path(settings: Settings, *, needs_key: bool) -> None:
    """Check that the request path of *settings* is safe.

    *needs_key* is whether requests need a key, a session or a sign-in by a proxy.

    Raises:
        SettingsError: a middleware is listed twice. Unless ``MIDDLEWARES_UNCHECKED`` is set, this
            is also raised if requests need a key but ``api_key`` is missing, or if ``errors``
            comes after a middleware that refuses requests by raising exceptions.
    """
    names = path_names(settings)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"MIDDLEWARES: {', '.join(twice)} is listed twice")
    if settings.middlewares_unchecked:
        return
    override = "; MIDDLEWARES_UNCHECKED=1 allows it"
    if needs_key and "api_key" not in names:
        raise SettingsError(
            f"MIDDLEWARES: api_key is missing, but a key or AUTH_PROXIES is set{override}"
        )
    if "errors" in names:
        outside = [name for name in names[: names.index("errors")] if name in _REFUSE_BY_EXCEPTION]
        if outside:
            raise SettingsError(
                f"MIDDLEWARES: errors must come before {', '.join(outside)}, to turn "
                f"their refusals into JSON{override}"
            )


def path_warnings(settings: Settings, *, needs_key: bool) -> Iterator[str]:
    """Yield warnings for the operator about the request path of *settings*, one sentence each.

    *needs_key* is whether requests need a key, a session or a sign-in by a proxy.
    """
    names = path_names(settings)
    for name, risk in _RISKS_WITHOUT.items():
        if name not in names:
            yield f"without {name}, {risk}"
    if needs_key and "api_key" not in names:
        yield "without api_key, anyone can use the service"
    for name in names[: names.index("errors")] if "errors" in names else ():
        if ":" in name:
            yield f"{name} is outside errors: its exceptions are not turned into JSON"
    for address in sorted(gateways().intersection(settings.auth_proxies)):
        yield (
            f"{address} in AUTH_PROXIES is a gateway of this machine: if Docker publishes the "
            "port, connections from anywhere may appear to come from this address"
        )
    if "rate_limit" in names and "api_key" in names[: names.index("rate_limit")]:
        yield "with rate_limit inside api_key, guessing the key costs no tokens"
    if "rate_limit" in names and "request_context" in names[names.index("rate_limit") :]:
        yield "with request_context inside rate_limit, all clients of a proxy share one bucket"


def request_path(
    settings: Settings,
    app: web.Application,
    own: Mapping[str, Make],
    of_plugins: Iterable[tuple[str, object]],
) -> Iterator[Middleware]:
    """Yield the middlewares in the order of *settings*, outermost first.

    *own* maps the names of this service's middlewares to functions that create them. Other names
    refer to a user's own factories, which take either no arguments, or *app* and the settings
    without secrets. *of_plugins* are pairs of a plugin's name and its middleware. These middlewares
    come last.

    Raises:
        SettingsError: a user's own factory failed or did not return a middleware, or a plugin
            registered something that is not a middleware.
    """
    for name in path_names(settings):
        if name in own:
            yield from own[name]()
        else:
            yield _from_user(name, app, settings)
    for plugin, made in of_plugins:
        if not _is_middleware(made):
            raise SettingsError(f"plugin {plugin}: {made!r} is not a middleware")
        yield made


def _from_user(name: str, app: web.Application, settings: Settings) -> Middleware:
    setting = "EXTRA_MIDDLEWARES" if name in settings.extra_middlewares else "MIDDLEWARES"
    try:
        factory = resolve_name(name)
        made = factory(*_arguments(factory, app, settings.without_secrets()))
    # A user's own factory may raise anything, even SystemExit.
    except (Exception, SystemExit) as error:
        raise SettingsError(f"{setting}: {name!r} failed: {error!r}") from error
    if not _is_middleware(made):
        raise SettingsError(f"{setting}: {name!r} returned {type(made).__name__}, not a middleware")
    return made


def _is_middleware(made: object) -> TypeGuard[Middleware]:
    """Return whether *made* is an aiohttp middleware, decorated with ``web.middleware``."""
    return callable(made) and getattr(made, "__middleware_version__", 0) == 1


def _arguments(factory: Factory, *offered: Any) -> tuple[Any, ...]:
    """Return the *offered* arguments, or an empty tuple if *factory* takes none."""
    try:
        signature = inspect.signature(factory)
    # Some built-in functions have no readable signature.
    except ValueError:
        return ()
    try:
        signature.bind()
    except TypeError:
        return offered
    return ()


class OwnMiddlewares:
    """Creates this service's own middlewares according to the settings."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        fleet: "Fleet | None",
        keys: ApiKeys,
        sessions: Sessions,
        proxy: ProxySignIn,
        base_path: BasePath,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._fleet = fleet
        self._keys = keys
        self._sessions = sessions
        self._proxy = proxy
        self._base_path = base_path

    def request_context(self) -> Iterator[Middleware]:
        """Create the middleware for request IDs, clients' addresses and the access log."""
        yield request_context(trusted_proxies=self._settings.proxies)

    def metrics(self) -> Iterator[Middleware]:
        """Create the middleware that counts and times requests."""
        yield metrics(self._metrics.registry)

    def errors(self) -> Iterator[Middleware]:
        """Create the middleware that turns exceptions into JSON."""
        yield errors(RESPONSES, request_id=REQUEST_ID)

    def browser_guard(self) -> Iterator[Middleware]:
        """Create the middleware that refuses requests from other sites' pages."""
        own_path = self._base_path.own_path
        yield browser_guard(
            hosts=self._hosts(),
            advice=self._host_advice(),
            exempt=lambda request: own_path(request) == "/health",
            changes=self._makes_files,
        )

    def body_size(self) -> Iterator[Middleware]:
        """Create the middleware that refuses large bodies."""
        yield body_size(self._settings.max_json_body_bytes, by_path=self._larger_bodies())

    def rate_limit(self) -> Iterator[Middleware]:
        """Create three buckets per client: one for work, and larger ones for reads and files.

        With a single bucket, browsing a gallery or polling a job would use up the tokens for
        downloads.
        """
        max_requests = self._settings.rate_limit_max_requests
        if not max_requests:
            return
        yield self._bucket("work", max_requests, own_limit=self._own_limit, cost=batch_tokens)
        for name in ("reads", "files"):
            size = max_requests * _READS_PER_TOKEN
            yield self._bucket(name, size, own_limit=self._own_larger_limit)

    def _bucket(self, name: Bucket, size: int, **options: Any) -> Middleware:
        return rate_limit(
            size,
            self._settings.rate_limit_window_seconds,
            max_clients=self._settings.rate_limit_max_ips,
            redis=self._fleet.scripts if self._fleet else None,
            name=f"scrapper:{name}",
            penalties=_PENALTIES,
            exempt=lambda request: self._bucket_of(request) != name,
            on_refusal=self._metrics.rejections.labels(name).inc,
            **options,
        )

    def api_key(self) -> Iterator[Middleware]:
        """Create the middleware that requires a key, if one is set."""
        if self._keys.needed:
            yield api_key(
                self._keys.names,
                exempt=self._is_free,
                fallback=self._signed_in_name,
                on_admission=_bind_name,
            )

    async def _own_limit(self, request: web.Request) -> tuple[str, int] | None:
        """Return the name and size of the client's own bucket, or None if it has none.

        A client with a key has its own bucket if the key has its own limit. Each user whom a proxy
        signs in has one, because these users may all share the proxy's address.
        """
        sender = await sender_of(request)
        if isinstance(sender, Key):
            return None if sender.limit is None else (f"key {sender.name}", sender.limit)
        return None if sender is None else (sender, self._settings.rate_limit_max_requests)

    async def _own_larger_limit(self, request: web.Request) -> tuple[str, int] | None:
        if request.match_info.handler is thumbnail and await self._is_admitted(request):
            # No limit, because a gallery loads thousands of thumbnails.
            return "", 0
        own = await self._own_limit(request)
        return own and (own[0], own[1] * _READS_PER_TOKEN)

    async def _is_admitted(self, request: web.Request) -> bool:
        return not self._keys.needed or await sender_of(request) is not None

    async def _signed_in_name(self, request: web.Request) -> str | None:
        """Return the name of the session's key, or else of the signed-in user, if any."""
        key = await self._sessions.session_key(request)
        return key.name if key else self._proxy.name_of(request)

    def _is_free(self, request: web.Request) -> bool:
        """Return whether the request needs no key and costs no token."""
        return self._base_path.own_path(request) in _FREE_PATHS

    def _bucket_of(self, request: web.Request) -> Bucket | None:
        """Return the bucket from which the request takes tokens, or None if the request is free."""
        path = self._base_path.own_path(request)
        if self._is_free(request):
            return None
        if self._makes_files(request):
            return "work"
        if request.method in _READING:
            if path.startswith(_FILES):
                return "files"
            return "reads" if path.startswith(_READS) else "work"
        return "reads" if request.match_info.handler in _CHEAP_CHANGES else "work"

    def _makes_files(self, request: web.Request) -> bool:
        """Return whether a GET causes a download from Instagram, or a conversion."""
        path, names = self._base_path.own_path(request), request.query.keys()
        if path == _BY_URL:
            return "shortcodes" not in names or not names.isdisjoint(("url", "link"))
        return path.startswith(_BY_URL) and not names.isdisjoint(CONVERSION_NAMES)

    def _hosts(self) -> Sequence[str] | None:
        """Return the allowed hosts, or None to allow every host.

        Without ``ALLOWED_HOSTS``, every host is allowed if requests need a key, because a page
        cannot get a key by DNS rebinding.
        """
        allowed = self._settings.allowed_hosts
        return None if self._keys.needed and not allowed else allowed

    def _host_advice(self) -> str:
        advice = "Use the IP address instead. To allow the name, add it to ALLOWED_HOSTS"
        if self._keys.needed:
            return f"{advice}."
        return f"{advice}, or set API_KEY: with a key, the service accepts every host name."

    def _larger_bodies(self) -> Mapping[str, int]:
        """Return a mapping from each path that accepts larger bodies to its limit in bytes."""
        settings = self._settings
        batch = MAX_URLS * (settings.max_url_length + 16) + MAX_WEBHOOK_LENGTH + 128
        sizes = {
            "/jobs": max(settings.max_json_body_bytes, batch),
            "/posts/bulk": max(settings.max_json_body_bytes, MAX_SHORTCODES * 72 + 128),
            "/login": max(settings.max_json_body_bytes, MAX_COOKIES_BYTES),
        }
        return {
            prefix + path: size
            for prefix in ("", settings.base_path)
            for path, size in sizes.items()
        }


def _bind_name(key: str) -> None:
    """Add the name of the key to the request's log lines."""
    bind_contextvars(key=key)
