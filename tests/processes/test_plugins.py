"""Plugins in real processes: with Redis, and when they hang."""

from pathlib import Path
from typing import Any

import pytest

from tests.instagram import StandIn
from tests.process import Service, Worker, wait_for
from tests.redis_server import RedisServer
from tests.tampering import NOTING

HANGING = {
    "a function": """
@hookimpl
def post_stored(post):
    threading.Event().wait()
""",
    "a pool of threads": """
@hookimpl
def post_stored(post):
    ThreadPoolExecutor(1).submit(threading.Event().wait).result()
""",
    "a coroutine": """
@hookimpl
async def post_stored(post):
    await asyncio.Event().wait()
""",
    "a coroutine that blocks": """
@hookimpl
async def post_stored(post):
    threading.Event().wait()
""",
    "a coroutine with threads": """
@hookimpl
async def post_stored(post):
    await asyncio.gather(*(asyncio.to_thread(threading.Event().wait) for _ in range(100)))
""",
    "a coroutine that ignores cancellation": """
@hookimpl
async def post_stored(post):
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
""",
}
# With these constants, the process that loads the plugin waits only briefly at exit.
_PREAMBLE = """
import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from scrapper.commands import serve
from scrapper.plugins import follower
from scrapper.plugins.hooks import hookimpl

follower._SECONDS_TO_CLEAN_UP = 0.2
serve._SECONDS_TO_CLOSE = 0.2
"""


def url(number: int) -> str:
    return f"https://www.instagram.com/reel/reel-{number}/"


def test_with_redis_each_event_calls_a_plugin_once(
    instagram: StandIn, media_root: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "noting.py").write_text(NOTING)
    noted = tmp_path / "noted"
    noted.touch()
    environment = {
        **instagram.environment,
        "REDIS_URL": redis_server.url,
        "PLUGINS": "noting",
        "NOTED": str(noted),
    }

    def lines() -> list[str]:
        return sorted(noted.read_text().splitlines())

    path: dict[str, Any] = {"python_path": tmp_path}
    with (
        Service(media_root, environment, **path) as one,
        Service(media_root, environment, **path) as other,
        Worker(media_root, environment, **path),
    ):
        for number in range(4):
            (one, other)[number % 2].scrape(url(number))
        job = one.post("/jobs", {"urls": [url(4), url(5)]}).json()
        expected = [f"job {job['id']} done done", *(f"stored reel-{it}" for it in range(6))]
        wait_for(lambda: lines() == expected)
        other.delete("/posts/reel-0")
        wait_for(lambda: len(lines()) == 8)
        # A process that starts later has nothing left to do.
        with Service(media_root, environment, **path) as third:
            third.scrape(url(6))
            wait_for(lambda: "stored reel-6" in lines())
    assert lines() == sorted([*expected, "removed reel-0", "stored reel-6"])


def test_a_hanging_route_does_not_delay_shutdown(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "hanging.py").write_text(
        _PREAMBLE + "from aiohttp import web\n"
        "async def hang(request):\n"
        "    asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))\n"
        "    return web.Response()\n"
        "@hookimpl\n"
        "def register_routes(app):\n"
        "    return [web.get('/hang', hang)]\n"
    )
    environment = {**instagram.environment, "PLUGINS": "hanging"}
    with Service(media_root, environment, python_path=tmp_path) as service:
        assert service.get("/hang").status_code == 200
        service.terminate()
        assert service.wait() == 0


@pytest.mark.parametrize("how", HANGING)
def test_a_hanging_plugin_delays_neither_requests_nor_shutdown(
    instagram: StandIn, media_root: Path, tmp_path: Path, how: str
) -> None:
    (tmp_path / "hanging.py").write_text(_PREAMBLE + HANGING[how])
    environment = {
        **instagram.environment,
        "PLUGINS": "hanging",
        "PLUGIN_TIMEOUT_SECONDS": "0.05",
    }
    with Service(media_root, environment, python_path=tmp_path) as service:
        for number in range(20):
            assert service.scrape(url(number)).status_code == 200
        assert 'plugin_behind{plugin="hanging"}' in service.get("/metrics").text
        service.terminate()
        assert service.wait() == 0
