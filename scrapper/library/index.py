"""What was read of the library lately, so that many requests share one look at the disk."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from scrapper.library.stored import StoredPost, load

__all__ = ["Index"]

_TRUSTED_SECONDS = 0.1
_INDEXED_POSTS = 1024


class Index:
    """The posts under *root* that were read last, by shortcode; for one event loop.

    *check* is called in a thread where a post is not found; it raises where the root is gone.
    """

    def __init__(self, root: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._check = check
        self._posts: dict[str, StoredPost] = {}
        self._looks: dict[str, asyncio.Task[StoredPost | None]] = {}

    async def get(self, shortcode: str) -> StoredPost | None:
        """The stored post, or None: not stored, not whole any more, or not readable.

        What was found on the disk within the last tenth of a second is not looked for again,
        and however many ask for a post at once, its folder is read once.
        """
        known = self._posts.get(shortcode)
        if known is not None and time.monotonic() - known.seen_at < _TRUSTED_SECONDS:
            return known
        look = self._looks.get(shortcode)
        if look is None:
            look = self._looks[shortcode] = asyncio.create_task(self._look(shortcode))
        return await asyncio.shield(look)

    def changed(self, shortcode: str) -> None:
        """Note that a post was published or removed."""
        self._posts.pop(shortcode, None)
        self._looks.pop(shortcode, None)

    async def _look(self, shortcode: str) -> StoredPost | None:
        stored = None
        try:
            stored = await asyncio.to_thread(self._load, shortcode)
        finally:
            # Else what was read may have been replaced meanwhile.
            if self._looks.get(shortcode) is asyncio.current_task():
                self.changed(shortcode)
                if stored is not None:
                    self._posts[shortcode] = stored
                    if len(self._posts) > _INDEXED_POSTS:
                        del self._posts[next(iter(self._posts))]
        return stored

    def _load(self, shortcode: str) -> StoredPost | None:
        stored = load(self._root / shortcode)
        if stored is None:
            self._check()
        return stored
