"""Recently read posts, so that many requests share one read of the disk."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
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
        self._looks: dict[str, asyncio.Future[StoredPost | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, shortcode: str) -> StoredPost | None:
        """The stored post, or None: not stored, not whole any more, or not readable.

        What was found on the disk within the last tenth of a second is not looked for again,
        and however many ask for a post at once, its folder is read once.
        """
        known = self._known(shortcode)
        if known is not None:
            return known
        if shortcode not in self._looks:
            self._look([shortcode])
        return await asyncio.shield(self._looks[shortcode])

    async def get_all(self, shortcodes: Sequence[str]) -> list[StoredPost | None]:
        """The same for many posts, which one thread reads one after the other."""
        known = {shortcode: self._known(shortcode) for shortcode in shortcodes}
        unknown = [shortcode for shortcode, stored in known.items() if stored is None]
        self._look([shortcode for shortcode in unknown if shortcode not in self._looks])
        looks = {shortcode: self._looks[shortcode] for shortcode in unknown}
        found = {shortcode: await asyncio.shield(look) for shortcode, look in looks.items()}
        return [known[shortcode] or found[shortcode] for shortcode in shortcodes]

    def changed(self, shortcode: str) -> None:
        """Note that a post was published or removed."""
        self._posts.pop(shortcode, None)
        self._looks.pop(shortcode, None)

    def _known(self, shortcode: str) -> StoredPost | None:
        known = self._posts.get(shortcode)
        is_trusted = known is not None and time.monotonic() - known.seen_at < _TRUSTED_SECONDS
        return known if is_trusted else None

    def _look(self, shortcodes: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        looks = {shortcode: loop.create_future() for shortcode in shortcodes}
        for look in looks.values():
            # Nobody may be waiting any more when it fails.
            look.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._looks |= looks
        task = asyncio.create_task(self._read(looks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, looks: Mapping[str, asyncio.Future[StoredPost | None]]) -> None:
        try:
            found = await asyncio.to_thread(self._load, list(looks))
        # Those who wait get the error.
        except Exception as error:  # noqa: BLE001
            for shortcode, look in looks.items():
                if self._looks.get(shortcode) is look:
                    self.changed(shortcode)
                look.set_exception(error)
            return
        for (shortcode, look), stored in zip(looks.items(), found, strict=True):
            # Else what was read may have been replaced meanwhile.
            if self._looks.get(shortcode) is look:
                self.changed(shortcode)
                if stored is not None:
                    self._posts[shortcode] = stored
            look.set_result(stored)
        while len(self._posts) > _INDEXED_POSTS:
            del self._posts[next(iter(self._posts))]

    def _load(self, shortcodes: Sequence[str]) -> list[StoredPost | None]:
        found = [load(self._root / shortcode) for shortcode in shortcodes]
        if None in found:
            self._check()
        return found
