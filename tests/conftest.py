"""Fixtures: the stand-in for Instagram, and the service over a real socket."""

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

# No machine is too slow for an example.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

Client = TestClient[Request, Application]
StartService = Callable[..., Awaitable[Client]]

_READ_TOO = r"(audio|aws|notify|otel|s3)_.*|.*_proxy|columns|force_color"
"""The lower-case names of variables that plugins, libraries and commands read."""

both_modes = pytest.mark.parametrize("mode", ["alone", "with Redis"], indirect=True)
"""Run the test once with a single service, and once with one of several replicas."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without garbage collections, and exclude them from later ones.

    Garbage collections took a third of the time to collect tests, and a tenth of that to run them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def distributions_read_once() -> Iterator[None]:
    """Each service looks for plugins in all that is installed, which does not change here."""
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
    """The stand-in, with its counters at zero; Instaloader reaches it instead of Instagram."""
    for name, value in shared_stand_in.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("scrapper.instagram.files.post._PAUSE_SECONDS", 0)
    shared_stand_in.reset()
    yield shared_stand_in
    shared_stand_in.reset()


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Videos and sounds in fragments by their names, made by ffmpeg, if there is one."""
    program("ffmpeg")
    return make_streams(tmp_path_factory.mktemp("streams"))


@pytest.fixture
def cdn(instagram: StandIn, streams: Mapping[str, Path]) -> Cdn:
    """What the CDN has of a post with a DASH manifest."""
    return Cdn(instagram, streams)


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    """Remove from the tester's environment whatever the service, its plugins or commands read.

    Commands also warn of names that resemble those of settings, so these go too.
    """
    similar = {name for name, _ in near_misses(os.environ)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            text = name.lower()
            if name in similar or text in Settings.model_fields or re.fullmatch(_READ_TOO, text):
                monkeypatch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def plain_tracebacks() -> None:
    """With each frame's values, a traceback in the log takes a tenth of a second."""
    *processors, _ = structlog.get_config()["processors"]
    formatter = structlog.dev.plain_traceback
    structlog.configure([*processors, structlog.dev.ConsoleRenderer(exception_formatter=formatter)])


@pytest.fixture(autouse=True)
def no_blocked_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """If the service's code makes a blocking call on an event loop, that is an error.

    Tests with the mark ``blocks`` make such calls themselves, as a thread would.
    """
    if request.node.get_closest_marker("blocks"):
        yield
        return
    with blockbuster_ctx(scanned_modules=["scrapper", "middlewares"]):
        yield


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a real browser."""
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
    """The settings for a service that runs alone, unless the test has another mode."""
    if getattr(request, "param", "alone") == "alone":
        return {}
    # The service soon goes on without a slow Redis, and on a busy machine any Redis may be slow.
    for name in ("_PATIENCE_SECONDS", "_TURN_SECONDS"):
        monkeypatch.setattr(f"scrapper.replicas.client.{name}", PATIENCE_SECONDS)
    server: RedisServer = request.getfixturevalue("redis_server")
    return {"REDIS_URL": server.url}


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """A worker while the block runs."""
    ended = asyncio.Event()
    parts = await asyncio.to_thread(assembly.assemble, settings)
    async with assembly.working(parts) as receiver:
        listening = asyncio.create_task(receiver.listen(ended))
        yield
        ended.set()
        await listening


class _Server(TestServer):
    """A server that lets handlers finish after their clients are gone, as the service's own does.

    aiohttp's test server cancels them, and aiohttp 3.14 does not close a file if the request is
    cancelled while a thread opens it.
    """

    async def _make_runner(self, **kwargs: Any) -> AppRunner:
        kwargs |= {"handler_cancellation": False, "auto_decompress": False}
        return AppRunner(self.app, **kwargs)


@asynccontextmanager
async def starting(
    media_root: Path, mode: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartService]:
    """A function that starts services; each runs until the block ends."""

    async def start(**settings: str) -> Client:
        environment = {
            "MEDIA_ROOT": str(media_root),
            # Without the stand-in nothing needs certificate authorities, which take 20 ms to read.
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
    """Start the service with settings on top of the tests' own, and return a client for it.

    With Redis, a worker runs too.
    """
    async with starting(media_root, mode, monkeypatch) as start:
        yield start


def metric_of(client: Client, name: str, **labels: str) -> float:
    """The value of a metric of the service that *client* reaches."""
    # Of this one alone: some others ask Redis.
    found = client.app[METRICS].registry.restricted_registry([name]).collect()
    samples = [one for metric in found for one in metric.samples]
    return sum(one.value for one in samples if (one.name, one.labels) == (name, labels))


def stored_files(media_root: Path) -> set[str]:
    """Every file of the posts, by its path under the media root."""
    # A folder may be renamed or removed meanwhile, which os.walk() passes over.
    paths = (Path(folder, name) for folder, _, names in os.walk(media_root) for name in names)
    files = (path.relative_to(media_root) for path in paths if path.is_file())
    return {str(path) for path in files if path.parts[0] != ".state"}


async def until(holds: Callable[[], bool]) -> None:
    """Wait until *holds* returns true; fail after the tests' time limit."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - it becomes true in another thread
            await asyncio.sleep(0.01)
