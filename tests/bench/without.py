"""The service with one of its optimisations taken out, to show what that one is worth.

``python -m tests.bench.without NAME`` runs the service. If arguments for
:mod:`tests.bench.peers.fetch` follow the name, it runs only the fetch.
"""

import asyncio
import importlib
import json
import re
import ssl
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
from aiohttp import web
from instaloader.instaloadercontext import InstaloaderContext
from urllib3.connection import HTTPConnection

import middlewares.metrics
import middlewares.rate_limit
import middlewares.request_context
import scrapper.app
import scrapper.handlers.scrape
import scrapper.instagram.client
import scrapper.instagram.files.fetch
import scrapper.instagram.files.post
import scrapper.instagram.sources.page
import scrapper.instagram.transport
import scrapper.library.index
import scrapper.library.post
import scrapper.library.publishing
import scrapper.library.response
import scrapper.library.stored
import scrapper.telemetry.logs
from middlewares.request_context import REQUEST_ID
from scrapper.commands.serve import serve
from scrapper.instagram.client import Instagram
from scrapper.instagram.context import Context
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.transport import PooledTransport
from scrapper.library.index import Index
from scrapper.library.post import Post
from scrapper.library.response import RenderedPost
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.library.stored import StoredPost, load
from scrapper.links import read_link
from scrapper.scraping.scraper import Asking
from scrapper.serving.response_headers import HEADERS
from scrapper.settings import Settings
from tests.bench.peers import fetch

__all__ = [
    "APART",
    "AT_ONCE",
    "CATALOGUE",
    "DUTIES",
    "OF_AN_ANSWER",
    "OF_A_DOWNLOAD",
    "OF_A_LISTING",
    "OF_A_PAGE",
    "OF_A_PROXY",
    "OF_A_REPLICA",
    "OF_NEW_POSTS",
    "ONE_GO",
]


_STAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)


class _StandardJSON:
    OPT_UTC_Z = 0

    @staticmethod
    def dumps(data: Any, default: Callable[[Any], Any] | None = None, _option: int = 0) -> bytes:
        return json.dumps(data, default=default or asdict).encode()


def _replace(owner: Any, name: str, value: Any) -> None:
    mock.patch.object(owner, name, value).start()


def _index() -> None:
    _replace(scrapper.library.index, "_TRUSTED_SECONDS", 0)


def _shared_look() -> None:
    async def get(self: Index, shortcode: str) -> StoredPost | None:
        known = self._posts.get(shortcode)
        if known and time.monotonic() - known.seen_at < scrapper.library.index._TRUSTED_SECONDS:
            return known
        stored: StoredPost | None = await asyncio.to_thread(load, self._root / shortcode)
        if stored:
            self._posts[shortcode] = stored
        return stored

    _replace(Index, "get", get)


def _rendered_answer() -> None:
    class Later:
        def __init__(self, post: Post, root: Path) -> None:
            self._about = post, root

        def to_json(self, **rest: Any) -> bytes:
            return RenderedPost.of(*self._about).to_json(**rest)

    _replace(scrapper.library.stored, "RenderedPost", mock.Mock(of=Later))


def _orjson() -> None:
    for module in (scrapper.library.response, scrapper.telemetry.logs):
        _replace(module, "orjson", _StandardJSON)
    _replace(scrapper.telemetry.logs, "_add_time", _STAMP)


def _gathered_lines() -> None:
    _replace(scrapper.telemetry.logs, "_GATHER_SECONDS", 0)


def _cached_loggers() -> None:
    def configure(**options: Any) -> None:
        original(**{**options, "cache_logger_on_first_use": False})

    original = structlog.configure
    _replace(structlog, "configure", configure)


def _remembered() -> None:
    parse: Any = read_link
    bucket: Any = middlewares.rate_limit._bucket
    _replace(scrapper.handlers.scrape, "read_link", parse.__wrapped__)
    _replace(middlewares.rate_limit, "_bucket", bucket.__wrapped__)


def _cheap_trifles() -> None:
    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = HEADERS["Server"]
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("X-Request-ID", request[REQUEST_ID])

    _replace(scrapper.app, "add_headers", add_headers)
    _replace(middlewares.request_context, "_new_id", lambda: uuid.uuid4().hex)
    _replace(middlewares.metrics, "cache", lambda labels: labels)
    _replace(scrapper.telemetry.logs, "_add_time", _STAMP)


def _nothing() -> None:
    pass


def _pooled_connections() -> None:
    _replace(PooledTransport, "close", PooledTransport.dispose)


def _copy_buffer() -> None:
    _replace(scrapper.instagram.files.fetch, "_COPY_BYTES", 64 * 1024)


def _kept_session() -> None:
    _replace(Context, "get_raw", InstaloaderContext.get_raw)


def _short_reads() -> None:
    def recv_into(self: Any, *args: Any) -> int:
        self.settimeout(self.context.deadline.left())
        return ssl.SSLSocket.recv_into(self, *args)

    _replace(scrapper.instagram.transport._DeadlineSocket, "recv_into", recv_into)


def _apart() -> None:
    # A post keeps its slot until its files are there.
    def fetch(self: Instagram, *post: Any, asking: Asking) -> Post:
        with asking():
            return original(self, *post)

    original = Instagram.fetch
    _replace(Instagram, "fetch", fetch)


def _files_at_once() -> None:
    _replace(scrapper.instagram.files.post, "_AT_ONCE", 1)


def _script_by_bytes() -> None:
    def every_script(html: bytes, _: Shortcode) -> list[bytes]:
        return re.findall(rb'<script type="application/json"[^>]*>(.*?)</script>', html)

    _replace(scrapper.instagram.sources.page, "_scripts_of", every_script)


def _undelayed_packets() -> None:
    _replace(HTTPConnection, "default_socket_options", [])


def _one_hop() -> None:
    async def get_all(self: Index, shortcodes: Sequence[str]) -> list[StoredPost | None]:
        return await asyncio.gather(*map(self.get, shortcodes))

    _replace(Index, "get_all", get_all)


def _catalogue() -> None:
    def from_settings(settings: Settings, root: MediaRoot) -> Library:
        del settings
        return Library(root.path, check=root.check)

    _replace(Library, "from_settings", from_settings)


OF_AN_ANSWER: dict[str, Callable[[], None]] = {
    "nothing": _nothing,
    "the library's index": _index,
    "shared disk lookups": _shared_look,
    "the response rendered in advance": _rendered_answer,
    "orjson": _orjson,
    "gathered log lines": _gathered_lines,
    "cached loggers": _cached_loggers,
    "cached URLs and addresses": _remembered,
    "cheap IDs, timestamps, headers and series": _cheap_trifles,
}
"""The optimisations for a stored post; "nothing" takes none out, and so shows the noise."""


def _flushing() -> None:
    _replace(scrapper.library.publishing, "flush", lambda _: None)


OF_A_DOWNLOAD: dict[str, Callable[[], None]] = {
    "pooled connections": _pooled_connections,
    "a copy buffer of 256 KiB": _copy_buffer,
    "one session for all files": _kept_session,
    "the faster socket read": _short_reads,
}
"""The optimisations for the fetch of a new post."""


def _gathered_scripts() -> None:
    # Imported here, so that runs without Redis do not load its client.
    fleet = importlib.import_module("scrapper.replicas.fleet")
    _replace(fleet, "GatheredScripts", lambda redis: redis)


OF_A_REPLICA: dict[str, Callable[[], None]] = {"gathered scripts": _gathered_scripts}
"""The optimisations for a stored post with Redis."""

OF_A_PAGE: dict[str, Callable[[], None]] = {"finding the script by its bytes": _script_by_bytes}
"""The optimisations for a post whose metadata comes from a page."""

AT_ONCE = "packets sent at once"
OF_A_PROXY: dict[str, Callable[[], None]] = {AT_ONCE: _undelayed_packets}
"""The optimisations when Instagram is reached by a proxy, as the stand-in is."""

ONE_GO, CATALOGUE = "reading a listing's posts in one go", "the catalogue"
OF_A_LISTING: dict[str, Callable[[], None]] = {ONE_GO: _one_hop, CATALOGUE: _catalogue}
"""The optimisations for a listing."""

APART = "queries and downloads apart"
OF_NEW_POSTS: dict[str, Callable[[], None]] = {
    APART: _apart,
    "files four at a time": _files_at_once,
}
"""The optimisations for new posts through the whole service."""

DUTIES: dict[str, Callable[[], None]] = {"flushing files to the disk": _flushing}
"""What costs CPU but cannot be dropped: a crash must leave no half-written file."""

if __name__ == "__main__":
    takes_out = {
        **OF_AN_ANSWER,
        **OF_A_DOWNLOAD,
        **OF_A_REPLICA,
        **OF_A_PAGE,
        **OF_A_PROXY,
        **OF_A_LISTING,
        **OF_NEW_POSTS,
        **DUTIES,
    }
    takes_out[sys.argv.pop(1)]()
    if sys.argv[1:]:
        fetch.main()
    else:
        sys.exit(serve())
