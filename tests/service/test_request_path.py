"""The request path follows ``MIDDLEWARES``, and no setting exposes the service by accident."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from scrapper.__main__ import main
from scrapper.app import create_app
from scrapper.assembly import assemble
from scrapper.errors import SettingsError
from scrapper.setting_types import OWN_MIDDLEWARES
from scrapper.settings import Settings, load_settings
from tests.conftest import StartService, until

pytestmark = pytest.mark.blocks

ALL = ",".join(OWN_MIDDLEWARES)
log = structlog.get_logger(__name__)


def _logging(name: str) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        log.info("passed", name=name)
        return await handler(request)

    return middleware


def one() -> Middleware:
    return _logging("one")


def two(name: str = "two") -> Middleware:
    return _logging(name)


def with_both(app: web.Application, settings: Settings) -> Middleware:
    assert isinstance(app, web.Application)
    return _logging(f"{settings.port}{settings.key}{settings.redis_url.get_secret_value()}")


def marking() -> Middleware:
    """Return a middleware that adds a header to every response."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.headers["X-Mine"] = str(response.status)
        return response

    return middleware


def replacing() -> Middleware:
    """Return a middleware that replaces every response."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        return web.Response(status=418, text="tea")

    return middleware


def no_middleware() -> str:
    return "text"


async def passed(start_service: StartService, capture: Any, **settings: str) -> list[str]:
    """Request /health; return the names logged, with ``request`` for the access line."""
    client = await start_service(**settings)
    with capture as lines:
        assert (await client.get("/health")).status == 200
    return [line.get("name", line["event"]) for line in lines]


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("{one},request_context,{two}", ["one", "two", "request"]),
        ("request_context,{two},{one}", ["two", "one", "request"]),
        ("request_context,errors,{one}", ["one", "request"]),
        ("{one}", ["one"]),
    ],
)
async def test_middlewares_run_in_the_order_of_the_setting(
    start_service: StartService, path: str, order: list[str]
) -> None:
    path = path.format(one=f"{__name__}:one", two=f"{__name__}:two")
    capture = structlog.testing.capture_logs()
    assert await passed(start_service, capture, MIDDLEWARES=path) == order


async def test_a_custom_outermost_middleware_can_change_every_response(
    start_service: StartService,
) -> None:
    client = await start_service(MIDDLEWARES=f"{__name__}:marking,{ALL}")
    for path, status in (("/health", 200), ("/nowhere", 404), ("/", 200), ("/posts/no!", 400)):
        response = await client.get(path)
        assert (response.status, response.headers["X-Mine"]) == (status, str(status))


async def test_the_log_has_the_response_of_the_outermost_middleware(
    start_service: StartService,
) -> None:
    client = await start_service(MIDDLEWARES=f"{__name__}:replacing,{ALL}")
    with structlog.testing.capture_logs() as lines:
        response = await client.get("/health")
        assert (response.status, await response.text()) == (418, "tea")
        await until(lambda: bool(lines))
    assert [(line["event"], line["status"]) for line in lines] == [("request", 418)]


async def test_extra_middlewares_come_last(start_service: StartService) -> None:
    capture = structlog.testing.capture_logs()
    settings = {"MIDDLEWARES": f"{__name__}:one", "EXTRA_MIDDLEWARES": f"{__name__}:two"}
    assert await passed(start_service, capture, **settings) == ["one", "two"]


async def test_a_factory_gets_the_settings_without_secrets(start_service: StartService) -> None:
    capture = structlog.testing.capture_logs()
    settings = {"EXTRA_MIDDLEWARES": f"{__name__}:with_both", "API_KEY": "s3cret", "PORT": "1"}
    names = await passed(start_service, capture, **settings)
    assert names[0] == "1"


async def test_an_omitted_middleware_is_off(start_service: StartService) -> None:
    client = await start_service(MIDDLEWARES="errors", RATE_LIMIT_MAX_REQUESTS="1")
    for _ in range(3):
        response = await client.post("/scrape", data=b"x" * 5000)
        assert response.status == 400
        assert "X-Request-ID" not in response.headers


def refusal(media_root: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    """Return why the service does not start, or an empty string."""
    monkeypatch.setenv("MEDIA_ROOT", str(media_root))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    parts = None
    try:
        parts = assemble(load_settings())
        create_app(parts)
    except SettingsError as error:
        return str(error)
    finally:
        if parts:
            parts.root.close()
    return ""


KEYED = {"API_KEY": "s3cret"}
WITHOUT_KEY = {"MIDDLEWARES": ALL.replace(",api_key", "")}
ERRORS_INSIDE = {"MIDDLEWARES": "browser_guard,errors"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"MIDDLEWARES": "errors,errors"}, "MIDDLEWARES: errors is listed twice"),
        ({"MIDDLEWARES": "errors,metrix"}, "unknown middleware 'metrix'"),
        ({"MIDDLEWARES": "nowhere:factory"}, "cannot be loaded"),
        ({"MIDDLEWARES": "os:sep"}, "is not callable"),
        ({"MIDDLEWARES": "os:rmdir"}, "MIDDLEWARES: 'os:rmdir' failed"),
        ({"MIDDLEWARES": f"{__name__}:no_middleware"}, "returned str, not a middleware"),
        ({**KEYED, **WITHOUT_KEY}, "api_key is missing, but a key or AUTH_PROXIES is set"),
        (ERRORS_INSIDE, "errors must come before browser_guard"),
    ],
)
def test_an_invalid_path_is_refused_at_startup(
    media_root: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], complaint: str
) -> None:
    assert complaint in refusal(media_root, monkeypatch, **settings)


@pytest.mark.parametrize("settings", [{**KEYED, **WITHOUT_KEY}, ERRORS_INSIDE])
def test_an_unsafe_path_is_accepted_if_allowed(
    media_root: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    assert refusal(media_root, monkeypatch, **settings, MIDDLEWARES_UNCHECKED="1") == ""


class Shown(NamedTuple):
    code: int
    out: str
    err: str


Show = Callable[..., Shown]


@pytest.fixture
def show(
    media_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Show:
    """Return a function that runs the command ``middlewares`` with the given settings."""

    def show(**settings: str) -> Shown:
        monkeypatch.setattr("sys.argv", ["scrapper", "middlewares"])
        for name, value in {"MEDIA_ROOT": str(media_root), **settings}.items():
            monkeypatch.setenv(name, value)
        code = main()
        return Shown(code, *capsys.readouterr())

    return show


def test_the_command_shows_the_request_path(show: Show) -> None:
    code, out, err = show(API_KEY="s3cret", EXTRA_MIDDLEWARES=f"{__name__}:one")
    names = [*OWN_MIDDLEWARES, f"{__name__}:one"]
    assert out.splitlines() == [f"{n}. {name}" for n, name in enumerate(names, start=1)]
    assert code == 0
    assert "s3cret" not in out + err


def test_the_command_shows_disabled_and_weak_parts(show: Show) -> None:
    _, out, err = show(MIDDLEWARES="errors,api_key,rate_limit")
    assert "2. api_key (off: no key is set)" in out
    assert "pages of other sites" in err
    assert "guessing the key costs no tokens" in err


@pytest.mark.parametrize("factory", ["os:rmdir", f"{__name__}:no_middleware"])
def test_the_command_reports_failing_factories(show: Show, factory: str) -> None:
    code, _, err = show(MIDDLEWARES=f"errors,{factory}")
    assert code == 2
    assert f"MIDDLEWARES: '{factory}'" in err


def test_the_command_refuses_the_same_settings_as_the_service(show: Show) -> None:
    code, out, err = show(**ERRORS_INSIDE)
    assert (code, out) == (2, "")
    assert "errors must come before browser_guard" in err
