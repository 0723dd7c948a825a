"""What was recently read of the library, so that many requests share one look at the disk."""

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
_MOST_BYTES = 4_000_000
_READERS = 2
"""Threads at a time: more would wait for each other rather than for the disk."""
_READ_AT_ONCE = 32

Look = asyncio.Future[StoredPost | None]


class Index:
    """The posts under *root* that were read last, by shortcode; for one event loop.

    *check* is called in a thread if a post is not found; it raises if the root is gone.
    """

    def __init__(self, root: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._check = check
        self._posts: dict[str, StoredPost] = {}
        self._bytes = 0
        self._looks: dict[str, Look] = {}
        self._waiting: deque[tuple[str, Look]] = deque()
        self._readers: set[asyncio.Task[None]] = set()

    async def get(self, shortcode: str) -> StoredPost | None:
        """The stored post, or None: not stored, not whole any more, or not readable.

        The disk is not read again within a tenth of a second, and simultaneous requests for a post
        read its folder once.
        """
        known = self._known(shortcode)
        if known is not None:
            return known
        return await asyncio.shield(self._looks.get(shortcode) or self._look(shortcode))

    async def get_all(self, shortcodes: Sequence[str]) -> list[StoredPost | None]:
        """What :meth:`get` returns for each of the *shortcodes*."""
        return await asyncio.gather(*map(self.get, shortcodes))

    def load(self, shortcode: str, version: int | None = None) -> StoredPost | None:
        """The stored post, read from the disk by the calling thread.

        If it has the *version*, and is in memory, it is not read again.
        """
        known, folder = self._posts.get(shortcode), self._root / shortcode
        if version and known and known.version == version == version_of(folder):
            return known
        stored = load(folder)
        if stored is None:
            self._check()
        return stored

    def remember(self, stored: StoredPost) -> None:
        """Note the post for :meth:`load` alone: it may have changed since it was published."""
        self._note(stored.post.shortcode, replace(stored, seen_at=-math.inf))

    def changed(self, shortcode: str) -> None:
        """Note that a post was published or removed."""
        self._looks.pop(shortcode, None)
        known = self._posts.pop(shortcode, None)
        if known is not None:
            self._bytes -= known.rendered.size

    def _known(self, shortcode: str) -> StoredPost | None:
        known = self._posts.get(shortcode)
        is_trusted = known is not None and time.monotonic() - known.seen_at < _TRUSTED_SECONDS
        return known if is_trusted else None

    def _look(self, shortcode: str) -> Look:
        look: Look = asyncio.get_running_loop().create_future()
        # Read the error, so that asyncio does not complain if nobody waits for it.
        look.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._looks[shortcode] = look
        self._waiting.append((shortcode, look))
        if len(self._readers) < _READERS:
            self._readers.add(asyncio.create_task(self._read()))
        return look

    async def _read(self) -> None:
        """Read what waits. A thread for each post would cost more than reading it."""
        try:
            while self._waiting:
                number = min(len(self._waiting), _READ_AT_ONCE)
                some = [self._waiting.popleft() for _ in range(number)]
                await self._read_now(some)
        finally:
            # Stop counting this reader at once: what waits from now on needs another one.
            self._readers.discard(cast(asyncio.Task[None], asyncio.current_task()))

    async def _read_now(self, some: Sequence[tuple[str, Look]]) -> None:
        shortcodes = [shortcode for shortcode, _ in some]
        found: Sequence[StoredPost | Exception | None]
        try:
            found = await asyncio.to_thread(self._load_all, shortcodes)
        # There is no thread any more, since the process ends.
        except RuntimeError as error:
            found = [error] * len(some)
        for (shortcode, look), stored in zip(some, found, strict=True):
            # If another look has begun, what this look read may be outdated.
            if self._looks.get(shortcode) is look:
                self._note(shortcode, stored)
            if isinstance(stored, Exception):
                look.set_exception(stored)
            else:
                look.set_result(stored)

    def _note(self, shortcode: str, stored: StoredPost | Exception | None) -> None:
        self.changed(shortcode)
        if isinstance(stored, StoredPost):
            self._posts[shortcode] = stored
            self._bytes += stored.rendered.size
            while self._bytes > _MOST_BYTES:
                self.changed(next(iter(self._posts)))

    def _load_all(self, shortcodes: Sequence[str]) -> list[StoredPost | Exception | None]:
        found: list[StoredPost | Exception | None] = []
        for shortcode in shortcodes:
            try:
                found.append(self.load(shortcode))
            # The callers that wait for this post get the error.
            except Exception as error:  # noqa: BLE001
                found.append(error)
        return found
