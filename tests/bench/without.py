"""The service with one of its optimisations taken out, to show what that one is worth.

``python -m tests.bench.without NAME`` runs the service. If arguments for
:mod:`tests.bench.peers.fetch` follow the name, it runs only the fetch.
"""

import asyncio
import importlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from instaloader.instaloadercontext import InstaloaderContext
from urllib3.connection import HTTPConnection

import scrapper.commands.serve
import scrapper.instagram.files.post
import scrapper.instagram.sources.page
import scrapper.library.index
import scrapper.telemetry.logs
from scrapper.commands.serve import serve
from scrapper.instagram.client import Instagram
from scrapper.instagram.context import Context
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.transport import PooledTransport
from scrapper.library.index import Index
from scrapper.library.news import News
from scrapper.library.post import Post
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.library.stored import StoredPost, load
from scrapper.scraping.scraper import Asking
from scrapper.settings import Settings
from tests.bench.peers import fetch

__all__ = [
    "APART",
    "CATALOGUE",
    "COLLECTIONS",
    "FILES",
    "INDEX",
    "OF_AN_ANSWER",
    "OF_A_FETCH",
    "OPTIMISATIONS",
    "PACKETS",
    "SCRIPTS",
    "SCRIPT_OF_A_PAGE",
    "TOGETHER",
]


def _replace(owner: Any, name: str, value: Any) -> None:
    mock.patch.object(owner, name, value).start()


def _index() -> None:
    _replace(scrapper.library.index, "_TRUSTED_SECONDS", 0)


def _one_by_one() -> None:
    _replace(scrapper.library.index, "_READ_AT_ONCE", 1)


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


def _gathered_lines() -> None:
    _replace(scrapper.telemetry.logs, "_GATHER_SECONDS", 0)


def _nothing() -> None:
    pass


def _rare_collections() -> None:
    _replace(scrapper.commands.serve, "_collect_less", _nothing)


def _pooled_connections() -> None:
    _replace(PooledTransport, "close", PooledTransport.dispose)


def _kept_session() -> None:
    _replace(Context, "get_raw", InstaloaderContext.get_raw)


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

    _replace(scrapper.instagram.sources.page, "json_scripts_of", every_script)


def _undelayed_packets() -> None:
    _replace(HTTPConnection, "default_socket_options", [])


def _catalogue() -> None:
    def from_settings(_settings: Settings, root: MediaRoot, _news: News | None = None) -> Library:
        return Library(root.path, check=root.check)

    _replace(Library, "from_settings", from_settings)


def _gathered_scripts() -> None:
    # Imported here, so that runs without Redis do not load its client.
    fleet = importlib.import_module("scrapper.replicas.fleet")
    _replace(fleet, "GatheredScripts", lambda redis: redis)


OF_AN_ANSWER: dict[str, Callable[[], None]] = {
    "nothing": _nothing,
    "shared disk lookups": _shared_look,
    "gathered log lines": _gathered_lines,
}
"""The optimisations for a stored post; "nothing" takes none out, and so shows the noise."""

OF_A_FETCH: dict[str, Callable[[], None]] = {
    "nothing": _nothing,
    "pooled connections": _pooled_connections,
    "one session for all files": _kept_session,
}
"""The optimisations for the fetch of a new post."""

INDEX = "the library's index"
TOGETHER = "reading many posts in one go"
COLLECTIONS = "rare garbage collections"
SCRIPTS = "gathered scripts"
SCRIPT_OF_A_PAGE = "finding the script by its bytes"
# It matters only if Instagram is reached through a proxy, as the stand-in is.
PACKETS = "packets sent at once"
CATALOGUE = "the catalogue"
APART = "queries and downloads apart"
FILES = "files four at a time"
_OTHERS: dict[str, Callable[[], None]] = {
    INDEX: _index,
    TOGETHER: _one_by_one,
    COLLECTIONS: _rare_collections,
    SCRIPTS: _gathered_scripts,
    SCRIPT_OF_A_PAGE: _script_by_bytes,
    PACKETS: _undelayed_packets,
    CATALOGUE: _catalogue,
    APART: _apart,
    FILES: _files_at_once,
}

OPTIMISATIONS = {**OF_AN_ANSWER, **OF_A_FETCH, **_OTHERS}
"""Takes each optimisation out of this process."""

if __name__ == "__main__":
    OPTIMISATIONS[sys.argv.pop(1)]()
    if sys.argv[1:]:
        fetch.main()
    else:
        sys.exit(serve())
