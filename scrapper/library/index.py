"""A short-lived cache of stored posts, so that simultaneous requests read the disk only once."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from scrapper.library.listing import version_of
from scrapper.library.stored import StoredPost, load

__all__ = ["Index"]

_TRUSTED_SECONDS = 0.1
_MAX_BYTES = 4_000_000
_READERS = 2
"""The number of threads that read posts; more of them would only wait for each other."""
_BATCH_SIZE = 32

_Read = asyncio.Future[StoredPost | None]


class Index:
    """A cache of the posts most recently read from *root*, for use on one event loop.

    If a post is not found, *check* is called in a thread, and raises if the root is gone.
    """

    def __init__(self, root: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._check = check
        self._posts: dict[str, StoredPost] = {}
        self._bytes = 0
        self._reads: dict[str, _Read] = {}
        self._queue: deque[tuple[str, _Read]] = deque()
        self._readers: set[asyncio.Task[None]] = set()

    async def get(self, shortcode: str) -> StoredPost | None:
        """Return the stored post; None if it is missing, incomplete or unreadable.

        A post that was read within the last tenth of a second is not read again, and simultaneous
        requests for a post share one read.
        """
        cached = self._cached(shortcode)
        if cached is not None:
            return cached
        return await asyncio.shield(self._reads.get(shortcode) or self._enqueue(shortcode))

    async def get_all(self, shortcodes: Sequence[str]) -> list[StoredPost | None]:
        """Return what :meth:`get` returns for each of the *shortcodes*."""
        return await asyncio.gather(*map(self.get, shortcodes))

    def load(self, shortcode: str, version: int | None = None) -> StoredPost | None:
        """Read the stored post from the disk in the calling thread.

        If *version* is given, and both the cached and the stored post have this version, return the
        cached post.
        """
        cached, folder = self._posts.get(shortcode), self._root / shortcode
        if version and cached and cached.version == version == version_of(folder):
            return cached
        stored = load(folder)
        if stored is None:
            self._check()
        return stored

    def remember(self, stored: StoredPost) -> None:
        """Cache a published post for :meth:`load`, which checks its version."""
        self._cache(stored.post.shortcode, replace(stored, seen_at=-math.inf))

    def changed(self, shortcode: str) -> None:
        """Drop the cached post, because it was published or removed."""
        self._reads.pop(shortcode, None)
        cached = self._posts.pop(shortcode, None)
        if cached is not None:
            self._bytes -= cached.rendered.size

    def _cached(self, shortcode: str) -> StoredPost | None:
        cached = self._posts.get(shortcode)
        is_current = cached is not None and time.monotonic() - cached.seen_at < _TRUSTED_SECONDS
        return cached if is_current else None

    def _enqueue(self, shortcode: str) -> _Read:
        read: _Read = asyncio.get_running_loop().create_future()
        # Retrieve the exception. Otherwise, asyncio would log it if no caller is left.
        read.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._reads[shortcode] = read
        self._queue.append((shortcode, read))
        if len(self._readers) < _READERS:
            self._readers.add(asyncio.create_task(self._work()))
        return read

    async def _work(self) -> None:
        """Read the queued posts in batches, because one thread per post would take longer."""
        try:
            while self._queue:
                number = min(len(self._queue), _BATCH_SIZE)
                await self._read_batch([self._queue.popleft() for _ in range(number)])
        finally:
            # Remove the task now, because posts queued from here on need a new one.
            self._readers.discard(cast(asyncio.Task[None], asyncio.current_task()))

    async def _read_batch(self, batch: Sequence[tuple[str, _Read]]) -> None:
        shortcodes = [shortcode for shortcode, _ in batch]
        found: Sequence[StoredPost | Exception | None]
        try:
            found = await asyncio.to_thread(self._load_all, shortcodes)
        # The process is exiting and cannot start any more threads.
        except RuntimeError as error:
            found = [error] * len(batch)
        for (shortcode, read), stored in zip(batch, found, strict=True):
            # If a newer read has begun, this result may be outdated.
            if self._reads.get(shortcode) is read:
                self._cache(shortcode, stored)
            if isinstance(stored, Exception):
                read.set_exception(stored)
            else:
                read.set_result(stored)

    def _cache(self, shortcode: str, stored: StoredPost | Exception | None) -> None:
        self.changed(shortcode)
        if isinstance(stored, StoredPost):
            self._posts[shortcode] = stored
            self._bytes += stored.rendered.size
            while self._bytes > _MAX_BYTES:
                self.changed(next(iter(self._posts)))

    def _load_all(self, shortcodes: Sequence[str]) -> list[StoredPost | Exception | None]:
        found: list[StoredPost | Exception | None] = []
        for shortcode in shortcodes:
            try:
                found.append(self.load(shortcode))
            # The error is for the callers that are waiting for this post.
            except Exception as error:  # noqa: BLE001
                found.append(error)
        return found
