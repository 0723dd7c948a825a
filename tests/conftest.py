"""Fixtures for the stand-in for Instagram, and for the service behind a real socket."""

import asyncio
import gc
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from aiohttp import TCPConnector
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, AppRunner, Request
from blockbuster import blockbuster_ctx

from scrapper import assembly
from scrapper.app import create_app
from scrapper.handlers.resources import METRICS
from scrapper.settings import Settings, load_settings, near_misses
from tests.instagram import StandIn
from tests.instagram.dash import Cdn, make_streams
from tests.process import PATIENCE_SECONDS, Process
from tests.programs import program
from tests.redis_server import RedisServer

# Examples must not fail on a slow machine.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

Client = TestClient[Request, Application]
StartService = Callable[..., Awaitable[Client]]

_ALSO_READ = r"(audio|aws|notify|otel|s3)_.*|.*_proxy|columns|force_color"
"""Matches the names, in lower case, of variables that plugins, libraries and commands read."""

both_modes = pytest.mark.parametrize("mode", ["alone", "with Redis"], indirect=True)
"""Run the test once with a standalone service, and once with a replica that uses Redis."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Disable garbage collection while tests are collected, and exempt the collected tests later.

    Garbage collection took a third of the time to collect tests, and a tenth of the whole run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cached_entry_points() -> Iterator[None]:
    """Search the installed distributions for plugins once, instead of once per service."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("scrapper.plugins.loading.entry_points", cache(entry_points))
        yield


def pytest_configure() -> None:
    Process.forks = True


@pytest.fixture(scope="session")
def shared_stand_in() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def instagram(shared_stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in that Instaloader uses instead of Instagram, with its counters at zero."""
    for name, value in shared_stand_in.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("scrapper.instagram.files.post._RETRY_SECONDS", 0)
    shared_stand_in.reset()
    yield shared_stand_in
    shared_stand_in.reset()


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Fragmented video and audio files, by name. Skip the test if ffmpeg is not installed."""
    program("ffmpeg")
    return make_streams(tmp_path_factory.mktemp("streams"))


@pytest.fixture
def cdn(instagram: StandIn, streams: Mapping[str, Path]) -> Cdn:
    """The files that the CDN has of a post with a DASH manifest."""
    return Cdn(instagram, streams)


@pytest.fixture(scope="session", autouse=True)
def no_inherited_settings() -> Iterator[None]:
    """Remove all variables that the service, a plugin or a command reads from the environment.

    Variables with names similar to those of settings are removed, too: commands warn about them.
    """
    similar = {name for name, _ in near_misses(os.environ)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            text = name.lower()
            if name in similar or text in Settings.model_fields or re.fullmatch(_ALSO_READ, text):
                monkeypatch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def plain_tracebacks() -> None:
    """Log tracebacks without local variables. With them, each takes a tenth of a second."""
    *processors, _ = structlog.get_config()["processors"]
    formatter = structlog.dev.plain_traceback
    structlog.configure([*processors, structlog.dev.ConsoleRenderer(exception_formatter=formatter)])


@pytest.fixture(autouse=True)
def no_blocked_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Raise an error if the service's code makes a blocking call on an event loop.

    Tests with the mark ``blocks`` may call blocking code directly, without a thread.
    """
    if request.node.get_closest_marker("blocks"):
        yield
        return
    with blockbuster_ctx(scanned_modules=["scrapper", "middlewares"]):
        yield


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    return program("chromium")


@pytest.fixture
def media_root(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if not RedisServer.is_installed():
        pytest.skip("needs Redis: on Debian, apt install redis-server")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty Redis."""
    shared_redis.client.flushall()
    return shared_redis


@pytest.fixture
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of the test's mode. By default, the service runs without Redis."""
    if getattr(request, "param", "alone") == "alone":
        return {}
    # On a busy machine, the usual timeouts would make the service continue without Redis.
    for name in ("_TIMEOUT_SECONDS", "_POOL_TIMEOUT_SECONDS"):
        monkeypatch.setattr(f"scrapper.replicas.client.{name}", PATIENCE_SECONDS)
    server: RedisServer = request.getfixturevalue("redis_server")
    return {"REDIS_URL": server.url}


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """Run a worker during the block."""
    ended = asyncio.Event()
    parts = await asyncio.to_thread(assembly.assemble, settings)
    async with assembly.working(parts) as receiver:
        listening = asyncio.create_task(receiver.listen(ended))
        yield
        ended.set()
        await listening


class _Server(TestServer):
    """A test server that lets handlers finish after a client disconnects, as the real server does.

    aiohttp's test server cancels handlers. If that happens while a thread opens a file, aiohttp
    3.14 does not close the file.
    """

    async def _make_runner(self, **kwargs: Any) -> AppRunner:
        kwargs |= {"handler_cancellation": False, "auto_decompress": False, "access_log": None}
        return AppRunner(self.app, **kwargs)


@asynccontextmanager
async def starting(
    media_root: Path, mode: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartService]:
    """Yield a function that starts services, which run until the block ends."""

    async def start(**settings: str) -> Client:
        environment = {
            "MEDIA_ROOT": str(media_root),
            # Only tests that use the stand-in need CA certificates. Reading them takes 20 ms.
            "REQUESTS_CA_BUNDLE": os.environ.get("REQUESTS_CA_BUNDLE", str(media_root.parent)),
            "RATE_LIMIT_MAX_REQUESTS": "0",
            "INSTAGRAM_MAX_QUERIES": "0",
            "INSTAGRAM_COOLDOWN_SECONDS": "0",
            "JOB_PATIENCE_SECONDS": "0",
            "SCRAPE_TIMEOUT_SECONDS": "20",
            **mode,
            **settings,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        checked = await asyncio.to_thread(load_settings)
        app = await asyncio.to_thread(lambda: create_app(assembly.assemble(checked)))
        client: Client = TestClient(_Server(app), connector=TCPConnector(limit=0))
        await started.enter_async_context(client)
        if mode:
            await started.enter_async_context(working(checked))
        return client

    async with AsyncExitStack() as started:
        yield start


@pytest.fixture
async def start_service(
    media_root: Path, mode: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartService]:
    """A function that starts the service and returns a client for it.

    Its keyword arguments are settings, which override the tests' defaults. With Redis, a worker
    runs, too.
    """
    async with starting(media_root, mode, monkeypatch) as start:
        yield start


def metric_of(client: Client, name: str, **labels: str) -> float:
    """Return the value of a metric of the service that *client* uses."""
    # Collect only this metric, because some others query Redis.
    found = client.app[METRICS].registry.restricted_registry([name]).collect()
    samples = [one for metric in found for one in metric.samples]
    return sum(one.value for one in samples if (one.name, one.labels) == (name, labels))


def stored_files(media_root: Path) -> set[str]:
    """Return the paths of all files of posts, relative to the media root."""
    # os.walk() ignores folders that are renamed or removed in the meantime.
    paths = (Path(folder, name) for folder, _, names in os.walk(media_root) for name in names)
    files = (path.relative_to(media_root) for path in paths if path.is_file())
    return {str(path) for path in files if path.parts[0] != ".state"}


async def until(holds: Callable[[], bool]) -> None:
    """Wait until *holds* returns true; fail after :data:`PATIENCE_SECONDS`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - it becomes true in another thread
            await asyncio.sleep(0.01)
