"""Plugins are found, and asked at start what they bring; what is wrong with one is said there."""

import argparse
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from scrapper.errors import SettingsError
from scrapper.instagram.sources import Source
from scrapper.plugins.hooks import hookimpl
from scrapper.plugins.loading import Plugins
from scrapper.settings import Settings
from tests.conftest import StartService
from tests.instagram import StandIn

pytestmark = pytest.mark.blocks


def module(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> str:
    """A plugin that is imported as *name*."""
    made = ModuleType(name)
    for hook, function in functions.items():
        setattr(made, hook, hookimpl(function))
    monkeypatch.setitem(sys.modules, name, made)
    return name


def test_a_hook_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = module(monkeypatch, "mine", post_storred=lambda: None)
    with pytest.raises(SettingsError, match="post_storred"):
        Plugins([name])


def test_an_argument_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = module(monkeypatch, "mine", post_stored=lambda posts: posts)
    with pytest.raises(SettingsError, match="plugin mine: cannot be loaded"):
        Plugins([name])


def test_two_plugins_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="plugin mine: cannot be loaded: there is another one"):
        Plugins([module(monkeypatch, "mine", post_removed=lambda: None), "mine"])


def test_a_plugin_that_cannot_work_ends_the_start_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, media_root: Path
) -> None:
    def configure(settings: Settings) -> None:
        raise SettingsError("set MINE_TOKEN")

    monkeypatch.setenv("MEDIA_ROOT", str(media_root))
    settings = Settings(plugins=(module(monkeypatch, "mine", configure=configure),))
    with pytest.raises(SettingsError, match="plugin mine: set MINE_TOKEN"):
        Plugins.from_settings(settings)


def test_plugins_see_no_secrets(monkeypatch: pytest.MonkeyPatch, media_root: Path) -> None:
    seen: list[Settings] = []
    monkeypatch.setenv("MEDIA_ROOT", str(media_root))

    def configure(settings: Settings) -> None:
        seen.append(settings)

    secret = "whsec_" + "a" * 40
    given: dict[str, Any] = {
        "api_key": "s3cret",
        "webhook_secret": secret,
        "redis_url": "redis://:pass@127.0.0.1",
    }
    settings = Settings(
        **given,
        plugins=(module(monkeypatch, "mine", configure=configure),),
    )
    Plugins.from_settings(settings)
    assert seen[0].port == settings.port
    assert not any(seen[0].secrets)


async def test_routes_and_middlewares_of_a_plugin_work_and_need_the_key(
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


async def test_a_route_like_the_base_path_is_refused(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response()

    name = module(monkeypatch, "mine", register_routes=lambda: [web.get("/hello/{name}", hello)])
    with pytest.raises(SettingsError, match="BASE_PATH: there is a route /hello already"):
        await start_service(PLUGINS=name, BASE_PATH="/hello/you")


async def test_a_route_that_is_there_already_is_refused(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def health(request: web.Request) -> web.Response:
        return web.Response()

    name = module(monkeypatch, "mine", register_routes=lambda: [web.get("/health", health)])
    with pytest.raises(SettingsError, match="plugin mine: GET /health is there already"):
        await start_service(PLUGINS=name)


@pytest.mark.parametrize("mode", ["alone"], indirect=True)
async def test_a_source_of_a_plugin_is_asked_last_and_may_fail(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, instagram: StandIn
) -> None:
    asked: list[str] = []

    def ask(context: Any, shortcode: Any) -> Any:
        asked.append(shortcode.text)
        raise RuntimeError("a fault of the plugin")

    name = module(
        monkeypatch, "mine", register_sources=lambda: [Source("mine", ask), Source("other", ask)]
    )
    client = await start_service(PLUGINS=name)
    with structlog.testing.capture_logs():
        for scenario, status in (("reel-1", 200), ("gone-1", 404), ("gated-1", 403)):
            url = f"https://www.instagram.com/reel/{scenario}/"
            assert (await client.post("/scrape", json={"url": url})).status == status, scenario
    assert asked == ["gated-1"] * 2


@pytest.mark.parametrize("mode", ["alone"], indirect=True)
async def test_a_source_that_hangs_costs_only_the_posts_that_need_it(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, instagram: StandIn
) -> None:
    go_on = threading.Event()

    def hang(*_: Any) -> Any:
        go_on.wait()

    name = module(monkeypatch, "mine", register_sources=lambda: [Source("mine", hang)])
    client = await start_service(PLUGINS=name, SCRAPE_TIMEOUT_SECONDS="2", SCRAPE_CONCURRENCY="1")
    for number in range(2):
        url = f"https://www.instagram.com/reel/gated-{number}/"
        assert (await client.post("/scrape", json={"url": url})).status in (403, 503, 504)
    url = "https://www.instagram.com/reel/reel-1/"
    assert (await client.post("/scrape", json={"url": url})).status == 200
    go_on.set()


def test_a_source_with_the_name_of_ours_is_refused(
    monkeypatch: pytest.MonkeyPatch, media_root: Path
) -> None:
    monkeypatch.setenv("MEDIA_ROOT", str(media_root))
    name = module(monkeypatch, "mine", register_sources=lambda: [Source("page", lambda *_: {})])
    with pytest.raises(SettingsError, match="source page already"):
        Plugins([name]).sources(Settings())


def run(*arguments: str, path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scrapper", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": f"{path}:.",
            "MEDIA_ROOT": str(path / "media"),
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )


COMMAND = """
from scrapper.plugins.hooks import hookimpl

def greet(options):
    print(f"hello {options.name}")
    return 3

@hookimpl
def register_commands(parser):
    command = parser.add_parser("greet", help="greets somebody")
    command.add_argument("name")
    command.set_defaults(func=greet)
"""


def test_a_command_of_a_plugin_runs_and_is_in_the_help(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(COMMAND)
    done = run("greet", "you", path=tmp_path, PLUGINS="mine")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello you\n", "")
    assert "greets somebody" in run("--help", path=tmp_path, PLUGINS="mine").stdout
    assert run("greet", "you", path=tmp_path).returncode == 2


def test_a_plugin_that_cannot_be_imported_ends_the_start_with_2(tmp_path: Path) -> None:
    done = run(path=tmp_path, PLUGINS="nowhere.to_be_found")
    assert done.returncode == 2
    assert "PLUGINS: 'nowhere.to_be_found' cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr


def test_commands_of_the_parser_are_those_of_argparse() -> None:
    parser = argparse.ArgumentParser()
    Plugins([]).add_commands(parser.add_subparsers())
