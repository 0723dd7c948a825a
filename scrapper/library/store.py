"""The library: the folder of stored posts."""

import asyncio
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from scrapper.errors import Busy, DiskFull, DiskReadOnly
from scrapper.library.additions import Additions, add
from scrapper.library.catalogue import Catalogue, Search
from scrapper.library.disk import storing
from scrapper.library.index import Index
from scrapper.library.keeping import keep, release
from scrapper.library.legacy import first_seen, legacy_time
from scrapper.library.listing import (
    Cursor,
    Listing,
    Usage,
    is_stored,
    newest,
    stored_before,
    usage_of,
    version_of,
    versions,
)
from scrapper.library.news import Change, LocalNews, News
from scrapper.library.post import Post
from scrapper.library.publishing import Publisher
from scrapper.library.root import MediaRoot
from scrapper.library.stored import MANIFEST, StoredPost
from scrapper.settings import Settings
from scrapper.tasks import finished, in_background

__all__ = ["Library"]

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

_EVERYTHING = Search()

_LISTED_AT_ONCE = 1024
# Each search may occupy a thread for a while.
_SEARCHES_AT_ONCE = 3
_REFUSALS = (Busy, DiskFull, DiskReadOnly, sqlite3.Error)
_CATALOGUE = "posts.sqlite3"
_CLOCKS_APART_SECONDS = 60


class Library:
    """The stored posts under *root*, an absolute path, by shortcode.

    Coroutines are for the event loop. The other methods block, and are for the thread that
    downloads.

    A process that was killed leaves folders that it did not publish. They are removed once they
    did not change for *abandoned_after* seconds. With 0, no other process may use the root.
    *check* raises if the root is gone or was replaced: then nothing is written.

    In that case everything but :meth:`changed` and :meth:`discard` raises
    :class:`~scrapper.errors.MediaFolderGone`.
    """

    def __init__(
        self,
        root: Path,
        *,
        catalogue: Path | None = None,
        abandoned_after: float = 0.0,
        check: Callable[[], None] = lambda: None,
        news: News | None = None,
    ) -> None:
        self.root = root
        self.news: News = news or LocalNews()
        """Which posts changed lately."""
        self._publisher = Publisher(root, abandoned_after=abandoned_after, check=check)
        self._catalogue = (
            Catalogue(catalogue, root, self._publisher.changes, check=check) if catalogue else None
        )
        self._searching = asyncio.Semaphore(_SEARCHES_AT_ONCE)
        self._busy_at = -math.inf
        self._syncing = asyncio.Lock()
        self._synced_at = -math.inf
        self._first_sync: asyncio.Task[None] | None = None
        self._usage: Usage | None = None
        self._listeners: list[Callable[[str], None]] = []
        self._check = check
        self._abandoned_after = abandoned_after
        self._index = Index(root, check=check)

    @classmethod
    def from_settings(
        cls, settings: Settings, root: MediaRoot, news: News | None = None
    ) -> "Library":
        """The library that *settings* describe, in *root*; *news* are those of all processes."""
        patience = 0.0
        if settings.redis_url.get_secret_value():
            # A download ends at its deadline, and two clocks may differ a little.
            patience = 2 * settings.scrape_timeout_seconds + _CLOCKS_APART_SECONDS
        catalogue = root.state / _CATALOGUE
        return cls(
            root.path,
            catalogue=catalogue,
            abandoned_after=patience,
            check=root.check,
            news=news,
        )

    @property
    def incoming(self) -> Path:
        """The folder of downloads under way."""
        return self._publisher.incoming

    async def open(self) -> None:
        """Create the folders, and remove what a crash left.

        Raises:
            SettingsError: a later release wrote the catalogue.
            OSError: the root cannot be written.
        """
        await asyncio.to_thread(self._open)
        self._start_sync()

    async def close(self) -> None:
        """Close what is open; after that, the library must not be used."""
        if self._first_sync is not None:
            await asyncio.wait([self._first_sync])
        if self._catalogue is not None:
            await asyncio.to_thread(self._catalogue.close)

    async def get(self, shortcode: str) -> StoredPost | None:
        """The stored post; None if it is not stored, incomplete or unreadable."""
        return await self._index.get(shortcode)

    async def get_all(self, shortcodes: Sequence[str]) -> Sequence[StoredPost | None]:
        """What :meth:`get` returns for each of the *shortcodes*."""
        return await self._index.get_all(shortcodes)

    def changed(self, shortcode: str, change: Change | None = "stored") -> None:
        """Note, on the loop, that a post was published or removed.

        With None for the *change*, another process may have done that, and notes it itself.
        """
        self._note(shortcode, change)
        for listener in self._listeners:
            listener(shortcode)

    def published(self, stored: StoredPost) -> None:
        """Like :meth:`changed`, for a post from :meth:`publish`: listeners can use it as it is."""
        self.changed(stored.post.shortcode)
        if self._listeners:
            self._index.remember(stored)

    def _note(self, shortcode: str, change: Change | None) -> None:
        self._index.changed(shortcode)
        if self._catalogue is not None:
            self._catalogue.suspect(shortcode)
        if change is not None:
            self.news.note(shortcode, change)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call *listener*, on the loop, with the shortcode of each post that changed."""
        self._listeners.append(listener)

    async def versions(self) -> dict[str, int]:
        """The version of each stored post: it changes when the post is stored again, and grows."""
        return await asyncio.to_thread(self._looked_up, versions, self.root)

    async def version(self, shortcode: str) -> int | None:
        """The version of one post; None if it is not stored."""
        return await asyncio.to_thread(self._looked_up, version_of, self.root / shortcode)

    async def versions_of(self, shortcodes: Iterable[str]) -> dict[str, int | OSError | None]:
        """The version of each of these posts; an error if it cannot be read."""

        def look(shortcode: str) -> int | OSError | None:
            try:
                return version_of(self.root / shortcode)
            except OSError as error:
                return error

        return await asyncio.to_thread(self._looked_up, lambda: {it: look(it) for it in shortcodes})

    async def changed_at(self) -> int:
        """When a post was last stored or removed, by any process; in nanoseconds."""
        return await self._in_thread(lambda: self.root.stat().st_mtime_ns)

    async def add(self, shortcode: str, name: str, additions: Additions, version: int) -> None:
        """Add to a post what the plugin called *name* made of this *version* of it.

        Raises:
            DiskFull, DiskReadOnly: the disk takes no writes.
            OSError: the post is gone, or cannot be changed.
        """
        with storing():
            await self._in_thread(add, self.root / shortcode, name, additions, version)
        self._note(shortcode, "changed")

    async def list(
        self, limit: int, after: Cursor | None = None, search: Search = _EVERYTHING
    ) -> Listing:
        """The *limit* posts stored last, or those that come *after* in that order.

        With a *search*, only those that match it. If posts are stored or removed between two
        listings, no other post appears twice or is left out.

        Raises:
            Busy: another program has locked the catalogue, which a search needs.
            DiskFull, DiskReadOnly: the catalogue cannot be written.
        """
        posts: list[StoredPost] = []
        last = after
        number = limit + 1 if self._catalogue else _LISTED_AT_ONCE
        while True:
            cursors = await self._newest(number, last, search)
            is_last = len(cursors) < number
            while cursors:
                room = limit - len(posts)
                if not room:
                    return Listing(posts, last)
                some, cursors = cursors[:room], cursors[room:]
                found = await self._index.get_all([cursor.name for cursor in some])
                posts += [stored for stored in found if stored and search.allows(stored)]
                last = some[-1]
            if is_last:
                return Listing(posts, None)

    async def _newest(self, number: int, after: Cursor | None, search: Search) -> Sequence[Cursor]:
        catalogue = self._catalogue
        if catalogue is not None and (search != _EVERYTHING or catalogue.complete):
            try:
                return await self._found(catalogue, number, after, search)
            except (*_REFUSALS, OSError) as error:
                if search != _EVERYTHING:
                    raise
                log.warning("catalogue not used", cause=repr(error))
        # It may take a minute to read all manifests for the first time.
        self._start_sync()
        return await self._in_thread(newest, self.root, number, after)

    async def _found(
        self, catalogue: Catalogue, number: int, after: Cursor | None, search: Search
    ) -> Sequence[Cursor]:
        asked_at = time.monotonic()
        async with self._searching:
            try:
                # Callers that waited meanwhile need not wait again.
                if self._busy_at > asked_at:
                    raise Busy(retry_after=1)
                await self._sync(catalogue, asked_at, fill=search != _EVERYTHING)
                return await self._in_thread(catalogue.newest, number, after, search)
            except Busy:
                if catalogue.complete:
                    self._busy_at = time.monotonic()
                if catalogue.complete or search == _EVERYTHING:
                    raise
            # The catalogue was damaged, and is recreated.
            await self._sync(catalogue, time.monotonic())
            return await self._in_thread(catalogue.newest, number, after, search)

    async def _sync(self, catalogue: Catalogue, asked_at: float, *, fill: bool = True) -> None:
        """Bring the *catalogue* up to date with the library as it was at *asked_at*.

        A new catalogue is filled only with *fill*.
        """
        async with self._syncing:
            if self._busy_at > asked_at:
                raise Busy(retry_after=1)
            # One look serves all that waited: there may be thousands, and many hung up long ago.
            if self._synced_at <= asked_at:
                began_at = time.monotonic()
                await finished(self._in_thread(partial(catalogue.sync, fill=fill)))
                self._synced_at = began_at

    def _start_sync(self) -> None:
        if self._catalogue is not None and not self._syncing.locked():
            self._first_sync = in_background(self._fill(self._catalogue), "catalogue")

    async def _fill(self, catalogue: Catalogue) -> None:
        try:
            await self._sync(catalogue, time.monotonic())
        # The catalogue is only a cache, and the next listing tries again.
        except Exception as error:  # noqa: BLE001
            log.warning("catalogue not up to date", cause=repr(error))

    async def remove(self, shortcode: str) -> bool:
        """Remove a post; return whether the post was stored.

        Raises:
            DiskReadOnly: the disk takes no writes.
            OSError: the post cannot be removed.
        """
        if not await self._in_thread(self._is_removable, shortcode):
            return False
        gone = False
        try:
            with storing():
                await self._in_thread(self._publisher.remove, shortcode)
            gone = True
        except FileNotFoundError:
            return False
        finally:
            self.changed(shortcode, "removed" if gone else None)
        return True

    async def keep(self, shortcode: str, *, kept: bool = True) -> bool:
        """Mark the post as kept, or take the mark away; return whether the post is stored.

        Raises:
            DiskFull, DiskReadOnly: the disk takes no writes.
        """
        there = await self.mark(shortcode, kept=kept)
        if there:
            await self.note_marks()
        return there

    async def mark(self, shortcode: str, *, kept: bool = True) -> bool:
        """Like :meth:`keep`, for one of many posts; call :meth:`note_marks` after the last."""
        if await self.get(shortcode) is None:
            return False
        folder = self.root / shortcode
        with storing():
            stored = await self._in_thread(keep if kept else release, folder)
        self.changed(shortcode, "changed")
        return stored is not False

    async def note_marks(self) -> None:
        """Let other processes, which search the same catalogue, find the new marks."""
        if self._catalogue is not None:
            await self._fill(self._catalogue)

    async def expire(
        self,
        max_age: float,
        *,
        reserve: Callable[[str], AbstractAsyncContextManager[bool]],
        now: float | None = None,
    ) -> int:
        """Remove the posts stored more than *max_age* seconds before *now*; return their number.

        *now*, in Unix seconds, is a time that the caller trusts; the wall clock's by default. The
        age of a post of release 0.2.0 counts from the first call that saw it. A kept post stays,
        and so does one whose shortcode cannot be reserved, and everything that is not a post: other
        names, links, and folders without a manifest or files of that release.
        """
        now = time.time() if now is None else now
        if self._abandoned_after:
            await self._in_thread(self._publisher.clear_leftovers, now)
        if self._catalogue is not None:
            with suppress(*_REFUSALS):
                await self._in_thread(self._catalogue.recheck)
            await self._fill(self._catalogue)
        removed = 0
        oldest = now - max_age
        old, replaced = await self._in_thread(stored_before, self.root, oldest)
        for shortcode in replaced:
            self.changed(shortcode, None)
        for shortcode in old:
            async with reserve(shortcode) as reserved:
                if not reserved:
                    continue
                gone = False
                try:
                    gone = await asyncio.to_thread(self._remove_if_before, shortcode, oldest)
                except OSError as error:
                    log.warning("post not removed", shortcode=shortcode, cause=str(error))
                removed += gone
                self.changed(shortcode, "removed" if gone else None)
        return removed

    async def usage(self) -> Usage:
        """How much is stored; this looks at every file.

        Raises:
            OSError: the root cannot be read.
        """
        self._usage = await self._in_thread(usage_of, self.root)
        return self._usage

    async def usage_now(self) -> Usage:
        """How much is stored, by the catalogue, or by the last look while that cannot be used.

        Raises:
            OSError: the root cannot be read.
        """
        if self._catalogue is not None and self._catalogue.complete:
            with suppress(*_REFUSALS):
                await self._sync(self._catalogue, time.monotonic(), fill=False)
                return await self._in_thread(self._catalogue.usage)
        return self._usage or await self.usage()

    def load(self, shortcode: str, version: int | None = None) -> StoredPost | None:
        """The stored post, read from the disk by the calling thread.

        If it has the *version*, and is in memory, it is not read again.
        """
        return self._index.load(shortcode, version)

    def has_version(self, shortcode: str, version: int) -> bool:
        """Whether the stored post has this *version*.

        Raises:
            OSError: the folder cannot be read.
        """
        return version_of(self.root / shortcode) == version

    def stage(self, shortcode: str) -> Path:
        """Make an empty folder for the files of a post that is being downloaded."""
        return self._publisher.stage(shortcode)

    def publish(self, folder: Path, post: Post, fence: int = 0) -> StoredPost:
        """Publish the post's *folder*; :meth:`changed` must be called after it.

        Raises:
            Superseded: the stored post has a higher fence, and stays.
        """
        return self._publisher.publish(folder, post, fence)

    def discard(self, folder: Path) -> None:
        """Remove a folder from :meth:`stage`, if it is still there."""
        self._publisher.discard(folder)

    def check(self) -> None:
        """Check that the root is still the same folder.

        Raises:
            MediaFolderGone: the root is gone, or was replaced.
        """
        self._check()

    def abandon(self) -> None:
        """Remove unfinished downloads: the process is ending, with its threads."""
        self._publisher.abandon()

    def _open(self) -> None:
        self.incoming.mkdir(parents=True, exist_ok=True)
        self._publisher.clear_leftovers(time.time())
        if self._catalogue is not None:
            # SQLite's check of a large catalogue would hold up the start.
            self._catalogue.refuse_newer()

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.to_thread(self._present, function, *arguments)

    def _present(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call *function*; if it fails because the root is gone, raise that error."""
        self._check()
        try:
            return function(*arguments)
        except OSError:
            self._check()
            raise

    def _looked_up(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Like :meth:`_present`, and check again: a root that vanished may have looked empty."""
        found = self._present(function, *arguments)
        self._check()
        return found

    def _is_removable(self, shortcode: str) -> bool:
        folder = self.root / shortcode
        return not folder.is_symlink() and is_stored(folder)

    def _remove_if_before(self, shortcode: str, moment: float) -> bool:
        folder = self.root / shortcode
        if legacy_time(folder) is None:
            since = os.lstat(folder / MANIFEST).st_mtime
        else:
            since = first_seen(folder) or moment
        return since < moment and self._publisher.remove(shortcode, unless_kept=True)
