"""Runs the service with one of its optimisations disabled, to measure how much it saves.

``python -m tests.bench.without NAME`` runs the service. If arguments for
:mod:`tests.bench.peers.fetch` follow the name, the command runs only the fetch.
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
from scrapper.library.post import Post
from scrapper.library.post_changes import PostChanges
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.library.stored import StoredPost, load
from scrapper.scraping.scraper import QueryGate
from scrapper.settings import Settings
from tests.bench.peers import fetch

__all__ = [
    "CATALOGUE",
    "COLLECTIONS",
    "FILES",
    "INDEX",
    "LIMITS",
    "NO_DELAY",
    "OF_A_FETCH",
    "OF_A_RESPONSE",
    "OPTIMISATIONS",
    "READS",
    "SCRIPTS",
    "SCRIPT_SEARCH",
]


def _replace(owner: Any, name: str, value: Any) -> None:
    mock.patch.object(owner, name, value).start()


def _index() -> None:
    _replace(scrapper.library.index, "_TRUSTED_SECONDS", 0)


def _batched_reads() -> None:
    _replace(scrapper.library.index, "_BATCH_SIZE", 1)


def _shared_lookups() -> None:
    async def get(self: Index, shortcode: str) -> StoredPost | None:
        known = self._posts.get(shortcode)
        if known and time.monotonic() - known.seen_at < scrapper.library.index._TRUSTED_SECONDS:
            return known
        stored: StoredPost | None = await asyncio.to_thread(load, self._root / shortcode)
        if stored:
            self._posts[shortcode] = stored
        return stored

    _replace(Index, "get", get)


def _batched_log_lines() -> None:
    _replace(scrapper.telemetry.logs, "_GATHER_SECONDS", 0)


def _nothing() -> None:
    pass


def _rare_collections() -> None:
    _replace(scrapper.commands.serve, "_tune_garbage_collection", _nothing)


def _pooled_connections() -> None:
    _replace(PooledTransport, "close", PooledTransport.dispose)


def _kept_session() -> None:
    _replace(Context, "get_raw", InstaloaderContext.get_raw)


def _separate_limits() -> None:
    # With a single limit, a post keeps its slot until its files are downloaded.
    def fetch(self: Instagram, *post: Any, query_gate: QueryGate) -> Post:
        with query_gate():
            return original(self, *post)

    original = Instagram.fetch
    _replace(Instagram, "fetch", fetch)


def _parallel_files() -> None:
    _replace(scrapper.instagram.files.post, "_MAX_PARALLEL", 1)


def _script_search() -> None:
    def every_script(html: bytes, _: Shortcode) -> list[bytes]:
        return re.findall(rb'<script type="application/json"[^>]*>(.*?)</script>', html)

    _replace(scrapper.instagram.sources.page, "json_scripts_of", every_script)


def _no_delay() -> None:
    _replace(HTTPConnection, "default_socket_options", [])


def _catalogue() -> None:
    def from_settings(
        _settings: Settings, root: MediaRoot, _post_changes: PostChanges | None = None
    ) -> Library:
        return Library(root.path, check=root.check)

    _replace(Library, "from_settings", from_settings)


def _batched_scripts() -> None:
    # Imported here, because runs without Redis must not load its client.
    fleet = importlib.import_module("scrapper.replicas.fleet")
    _replace(fleet, "GatheredScripts", lambda redis: redis)


OF_A_RESPONSE: dict[str, Callable[[], None]] = {
    "nothing": _nothing,
    "shared disk lookups": _shared_lookups,
    "batched log lines": _batched_log_lines,
}
"""The optimisations for a stored post; "nothing" disables none, which shows the noise."""

OF_A_FETCH: dict[str, Callable[[], None]] = {
    "nothing": _nothing,
    "pooled connections": _pooled_connections,
    "one session for all files": _kept_session,
}
"""The optimisations for the fetch of a new post."""

INDEX = "the library's index"
READS = "batched reads of posts"
COLLECTIONS = "rare garbage collections"
SCRIPTS = "batched scripts"
SCRIPT_SEARCH = "the byte search for the script"
# This matters only if Instagram is reached through an HTTP proxy, as the stand-in is.
NO_DELAY = "TCP_NODELAY"
CATALOGUE = "the catalogue"
LIMITS = "separate limits for queries and downloads"
FILES = "parallel file downloads"
_OTHERS: dict[str, Callable[[], None]] = {
    INDEX: _index,
    READS: _batched_reads,
    COLLECTIONS: _rare_collections,
    SCRIPTS: _batched_scripts,
    SCRIPT_SEARCH: _script_search,
    NO_DELAY: _no_delay,
    CATALOGUE: _catalogue,
    LIMITS: _separate_limits,
    FILES: _parallel_files,
}

OPTIMISATIONS = {**OF_A_RESPONSE, **OF_A_FETCH, **_OTHERS}
"""The functions that disable each optimisation in this process, by name."""

if __name__ == "__main__":
    OPTIMISATIONS[sys.argv.pop(1)]()
    if sys.argv[1:]:
        fetch.main()
    else:
        sys.exit(serve())
