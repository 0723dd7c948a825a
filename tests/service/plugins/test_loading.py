"""The routes, middlewares and sources that plugins add to the service."""

import asyncio
import threading
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from scrapper.errors import SettingsError
from scrapper.instagram.sources import Source
from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS
from tests.unit.plugins.test_loading import module

pytestmark = pytest.mark.blocks


async def test_plugin_routes_and_middlewares_need_the_key(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"hello": request.match_info["name"]})

    @web.middleware
    async def mark(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.headers["X-Mine"] = "yes"
        return response

    name = module(
        monkeypatch,
        "mine",
        register_routes=lambda: [web.get("/hello/{name}", hello)],
        register_middlewares=lambda: [mark],
    )
    client = await start_service(PLUGINS=name, API_KEY="s3cret", BASE_PATH="/saved")
    assert (await client.get("/hello/you")).status == 401
    for path in ("/hello/you", "/saved/hello/you"):
        response = await client.get(path, headers={"X-API-Key": "s3cret"})
        assert await response.json() == {"hello": "you"}
        assert response.headers["X-Mine"] == "yes"


async def test_a_route_that_starts_like_the_base_path_is_refused(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response()

    name = module(monkeypatch, "mine", register_routes=lambda: [web.get("/hello/{name}", hello)])
    with pytest.raises(SettingsError, match="BASE_PATH: the route /hello already exists"):
        await start_service(PLUGINS=name, BASE_PATH="/hello/you")


async def test_a_route_that_already_exists_is_refused(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def health(request: web.Request) -> web.Response:
        return web.Response()

    name = module(monkeypatch, "mine", register_routes=lambda: [web.get("/health", health)])
    with pytest.raises(SettingsError, match="plugin mine: GET /health already exists"):
        await start_service(PLUGINS=name)


async def test_plugin_sources_come_last_and_may_fail(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, instagram: StandIn
) -> None:
    asked: list[str] = []

    def ask(context: Any, shortcode: Any) -> Any:
        asked.append(shortcode.text)
        raise RuntimeError("a bug in the plugin")

    name = module(
        monkeypatch, "mine", register_sources=lambda: [Source("mine", ask), Source("other", ask)]
    )
    client = await start_service(PLUGINS=name)
    with structlog.testing.capture_logs():
        for scenario, status in (("reel-1", 200), ("gone-1", 404), ("gated-1", 403)):
            url = f"https://www.instagram.com/reel/{scenario}/"
            assert (await client.post("/scrape", json={"url": url})).status == status, scenario
    assert asked == ["gated-1"] * 2


async def test_a_hanging_source_delays_only_posts_that_need_it(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, instagram: StandIn
) -> None:
    monkeypatch.setattr("scrapper.plugins.loading._GRACE_SECONDS", 0.1)
    proceed = threading.Event()

    def hang(*_: Any) -> Any:
        proceed.wait()

    name = module(monkeypatch, "mine", register_sources=lambda: [Source("mine", hang)])
    client = await start_service(PLUGINS=name, SCRAPE_TIMEOUT_SECONDS="2", SCRAPE_CONCURRENCY="1")
    for number in range(2):
        url = f"https://www.instagram.com/reel/gated-{number}/"
        assert (await client.post("/scrape", json={"url": url})).status in (403, 503, 504)
    url = "https://www.instagram.com/reel/reel-1/"
    # On a busy machine, two seconds may be too short for any post.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (response := await client.post("/scrape", json={"url": url})).status != 200:
            assert response.status in (503, 504)
    proceed.set()
