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

from scrapper.errors import Busy, DiskFull, DiskReadOnly, SettingsError
from scrapper.library.additions import Additions, add
from scrapper.library.catalogue import Catalogue, Search
from scrapper.library.disk import converting_disk_errors
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
from scrapper.library.post import Post
from scrapper.library.post_changes import Change, LocalPostChanges, PostChanges
from scrapper.library.publishing import Publisher
from scrapper.library.root import MediaRoot
from scrapper.library.stored import MANIFEST, StoredPost
from scrapper.settings import Settings
from scrapper.tasks import finished, in_background

__all__ = ["Library"]

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

_EVERYTHING = Search()

_PAGE_SIZE = 1024
# Each search may occupy a thread for some time.
_CONCURRENT_SEARCHES = 3
_CATALOGUE_ERRORS = (Busy, DiskFull, DiskReadOnly, sqlite3.Error)
_CATALOGUE = "posts.sqlite3"
_MAX_CLOCK_SKEW_SECONDS = 60


class Library:
    """The stored posts under *root*, an absolute path, by shortcode.

    The coroutines must be called on the event loop, and so must :meth:`changed`, :meth:`published`
    and :meth:`listen`. The other methods block, and are meant for the thread that downloads a post.

    Leftovers of crashed processes are removed once they have not changed for *abandoned_after*
    seconds. The value 0 removes leftovers of any age at startup, and is allowed only if no other
    process uses the root. *check* raises if the root is gone or was replaced. In that case, nothing
    is written, and all methods except :meth:`changed` and :meth:`discard` raise
    :class:`~scrapper.errors.MediaFolderGone`.
    """

    def __init__(
        self,
        root: Path,
        *,
        catalogue: Path | None = None,
        abandoned_after: float = 0.0,
        check: Callable[[], None] = lambda: None,
        post_changes: PostChanges | None = None,
    ) -> None:
        self.root = root
        self.post_changes: PostChanges = post_changes or LocalPostChanges()
        """The latest changes to posts."""
        self._publisher = Publisher(root, abandoned_after=abandoned_after, check=check)
        self._catalogue = (
            Catalogue(catalogue, root, self._publisher.changes, check=check) if catalogue else None
        )
        self._searching = asyncio.Semaphore(_CONCURRENT_SEARCHES)
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
        cls, settings: Settings, root: MediaRoot, post_changes: PostChanges | None = None
    ) -> "Library":
        """Create the library in *root* from *settings*.

        If several processes share the library, *post_changes* contains the changes made by all of
        them.
        """
        abandoned_after = 0.0
        if settings.redis_url.get_secret_value():
            # This is longer than any download takes, with a margin for differences between
            # machines' clocks.
            abandoned_after = 2 * settings.scrape_timeout_seconds + _MAX_CLOCK_SKEW_SECONDS
        catalogue = root.state / _CATALOGUE
        return cls(
            root.path,
            catalogue=catalogue,
            abandoned_after=abandoned_after,
            check=root.check,
            post_changes=post_changes,
        )

    @property
    def incoming(self) -> Path:
        """The folder for downloads in progress."""
        return self._publisher.incoming

    async def open(self) -> None:
        """Create the folders, and remove the leftovers of crashed processes.

        Raises:
            SettingsError: a later release wrote the catalogue, or :attr:`incoming` is not a folder.
            OSError: the root is not writable.
        """
        await asyncio.to_thread(self._open)
        self._start_sync()

    async def close(self) -> None:
        """Close the catalogue; the library must not be used afterwards."""
        if self._first_sync is not None:
            await asyncio.wait([self._first_sync])
        if self._catalogue is not None:
            await asyncio.to_thread(self._catalogue.close)

    async def get(self, shortcode: str) -> StoredPost | None:
        """Return the stored post; None if it is missing, incomplete or unreadable."""
        return await self._index.get(shortcode)

    async def get_all(self, shortcodes: Sequence[str]) -> Sequence[StoredPost | None]:
        """Return what :meth:`get` returns for each of the *shortcodes*."""
        return await self._index.get_all(shortcodes)

    def changed(self, shortcode: str, change: Change | None = "stored") -> None:
        """Record that a post was published or removed.

        If *change* is None, nothing is added to ``post_changes``: another process may have made the
        change, in which case that process has recorded it.
        """
        self._record(shortcode, change)
        for listener in self._listeners:
            listener(shortcode)

    def published(self, stored: StoredPost) -> None:
        """Call :meth:`changed` for the post that :meth:`publish` returned, and cache the post."""
        self.changed(stored.post.shortcode)
        if self._listeners:
            self._index.remember(stored)

    def _record(self, shortcode: str, change: Change | None) -> None:
        self._index.changed(shortcode)
        if self._catalogue is not None:
            self._catalogue.invalidate(shortcode)
        if change is not None:
            self.post_changes.record(shortcode, change)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call *listener* with the shortcode of each post that changes, on the event loop."""
        self._listeners.append(listener)

    async def versions(self) -> dict[str, int]:
        """Return each stored post's version, which increases each time the post is stored."""
        return await asyncio.to_thread(self._checked_twice, versions, self.root)

    async def version(self, shortcode: str) -> int | None:
        """Return the version of one post; None if it is not stored."""
        return await asyncio.to_thread(self._checked_twice, version_of, self.root / shortcode)

    async def versions_of(self, shortcodes: Iterable[str]) -> dict[str, int | OSError | None]:
        """Return the version of each of the *shortcodes*, or the error raised while reading it.

        The version of a post that is not stored is None.
        """

        def read(shortcode: str) -> int | OSError | None:
            try:
                return version_of(self.root / shortcode)
            except OSError as error:
                return error

        return await asyncio.to_thread(
            self._checked_twice, lambda: {shortcode: read(shortcode) for shortcode in shortcodes}
        )

    async def changed_at(self) -> int:
        """Return when any process last stored or removed a post, as a Unix time in nanoseconds."""
        return await self._in_thread(lambda: self.root.stat().st_mtime_ns)

    async def add(self, shortcode: str, name: str, additions: Additions, version: int) -> None:
        """Store what the plugin *name* adds to a post.

        The *additions* are valid only as long as the post's version is *version*.

        Raises:
            DiskFull, DiskReadOnly: the disk cannot be written.
            OSError: the post is gone, or cannot be changed.
        """
        with converting_disk_errors():
            await self._in_thread(add, self.root / shortcode, name, additions, version)
        self._record(shortcode, "changed")

    async def list(
        self, limit: int, after: Cursor | None = None, search: Search = _EVERYTHING
    ) -> Listing:
        """Return a page of up to *limit* posts that match *search*.

        The page starts after the cursor *after*, or at the beginning if *after* is None. If posts
        are stored or removed between two requests, no other post appears twice or is skipped.

        Raises:
            Busy: another program has locked the catalogue, which a search needs.
            DiskFull, DiskReadOnly: the catalogue cannot be written.
        """
        posts: list[StoredPost] = []
        last = after
        number = limit + 1 if self._catalogue else _PAGE_SIZE
        while True:
            cursors = await self._newest(number, last, search)
            is_last = len(cursors) < number
            while cursors:
                room = limit - len(posts)
                if not room:
                    return Listing(posts, last)
                batch, cursors = cursors[:room], cursors[room:]
                found = await self._index.get_all([cursor.name for cursor in batch])
                posts += [stored for stored in found if stored and search.allows(stored)]
                last = batch[-1]
            if is_last:
                return Listing(posts, None)

    async def _newest(self, number: int, after: Cursor | None, search: Search) -> Sequence[Cursor]:
        catalogue = self._catalogue
        if catalogue is not None and (search != _EVERYTHING or catalogue.complete):
            try:
                return await self._search(catalogue, number, after, search)
            except (*_CATALOGUE_ERRORS, OSError) as error:
                if search != _EVERYTHING:
                    raise
                log.warning("catalogue not used", cause=repr(error))
        # Do not wait for the catalogue, because reading all manifests may take a minute.
        self._start_sync()
        return await self._in_thread(newest, self.root, number, after)

    async def _search(
        self, catalogue: Catalogue, number: int, after: Cursor | None, search: Search
    ) -> Sequence[Cursor]:
        requested_at = time.monotonic()
        async with self._searching:
            try:
                # Another caller found the catalogue locked during our wait. Do not wait again.
                if self._busy_at > requested_at:
                    raise Busy(retry_after=1)
                await self._sync(catalogue, requested_at, fill=search != _EVERYTHING)
                return await self._in_thread(catalogue.newest, number, after, search)
            except Busy:
                if catalogue.complete:
                    self._busy_at = time.monotonic()
                if catalogue.complete or search == _EVERYTHING:
                    raise
            # The catalogue was damaged and has been recreated.
            await self._sync(catalogue, time.monotonic())
            return await self._in_thread(catalogue.newest, number, after, search)

    async def _sync(self, catalogue: Catalogue, requested_at: float, *, fill: bool = True) -> None:
        """Bring *catalogue* up to date with the library as of *requested_at*, a monotonic time.

        A new catalogue is filled only if *fill* is true.
        """
        async with self._syncing:
            if self._busy_at > requested_at:
                raise Busy(retry_after=1)
            # One sync serves all waiting callers. There may be thousands, and many of their clients
            # may have disconnected.
            if self._synced_at <= requested_at:
                started_at = time.monotonic()
                await finished(self._in_thread(partial(catalogue.sync, fill=fill)))
                self._synced_at = started_at

    def _start_sync(self) -> None:
        if self._catalogue is not None and not self._syncing.locked():
            self._first_sync = in_background(self._try_to_sync(self._catalogue), "catalogue")

    async def _try_to_sync(self, catalogue: Catalogue) -> None:
        try:
            await self._sync(catalogue, time.monotonic())
        # The catalogue is only a cache, and the next listing will sync it again.
        except Exception as error:  # noqa: BLE001
            log.warning("catalogue not up to date", cause=repr(error))

    async def remove(self, shortcode: str) -> bool:
        """Remove a post; return whether the post was stored.

        Raises:
            DiskReadOnly: the disk is read-only.
            OSError: the post cannot be removed.
        """
        if not await self._in_thread(self._is_removable, shortcode):
            return False
        gone = False
        try:
            with converting_disk_errors():
                await self._in_thread(self._publisher.remove, shortcode)
            gone = True
        except FileNotFoundError:
            return False
        finally:
            self.changed(shortcode, "removed" if gone else None)
        return True

    async def keep(self, shortcode: str, *, kept: bool = True) -> bool:
        """Mark the post as kept, or remove the mark; return whether the post is stored.

        Raises:
            DiskFull, DiskReadOnly: the disk cannot be written.
        """
        is_stored_post = await self.mark(shortcode, kept=kept)
        if is_stored_post:
            await self.record_marks()
        return is_stored_post

    async def mark(self, shortcode: str, *, kept: bool = True) -> bool:
        """Do what :meth:`keep` does, without updating the catalogue.

        After marking the last post, call :meth:`record_marks`.
        """
        if await self.get(shortcode) is None:
            return False
        folder = self.root / shortcode
        with converting_disk_errors():
            stored = await self._in_thread(keep if kept else release, folder)
        self.changed(shortcode, "changed")
        return stored is not False

    async def record_marks(self) -> None:
        """Update the catalogue, so that searches in other processes see the new marks."""
        if self._catalogue is not None:
            await self._try_to_sync(self._catalogue)

    async def expire(
        self,
        max_age: float,
        *,
        reserve: Callable[[str], AbstractAsyncContextManager[bool]],
        now: float | None = None,
    ) -> int:
        """Remove the posts stored more than *max_age* seconds before *now*; return their number.

        *now* is a Unix time that the caller trusts; the default is the time of the wall clock. The
        age of a post of release 0.2.0 counts from the first sweep that saw it. Kept posts stay, and
        so do posts for which *reserve* yields False because they are in use. Anything that is not a
        post is left alone: symbolic links, folders that are not named after a shortcode, and
        folders that contain neither a manifest nor files of release 0.2.0.
        """
        now = time.time() if now is None else now
        if self._abandoned_after:
            await self._in_thread(self._publisher.clear_leftovers, now)
        if self._catalogue is not None:
            with suppress(*_CATALOGUE_ERRORS):
                await self._in_thread(self._catalogue.recheck)
            await self._try_to_sync(self._catalogue)
        removed = 0
        cutoff = now - max_age
        old, replaced = await self._in_thread(stored_before, self.root, cutoff)
        for shortcode in replaced:
            self.changed(shortcode, None)
        for shortcode in old:
            async with reserve(shortcode) as reserved:
                if not reserved:
                    continue
                gone = False
                try:
                    gone = await asyncio.to_thread(self._remove_if_before, shortcode, cutoff)
                except OSError as error:
                    log.warning("post not removed", shortcode=shortcode, cause=str(error))
                removed += gone
                self.changed(shortcode, "removed" if gone else None)
        return removed

    async def usage(self) -> Usage:
        """Count the posts, and add up the sizes of all their files, without the catalogue.

        Raises:
            OSError: the root cannot be read.
        """
        self._usage = await self._in_thread(usage_of, self.root)
        return self._usage

    async def usage_now(self) -> Usage:
        """Return the number and the total size of the posts, as recorded in the catalogue.

        If the catalogue cannot be used, return the last result of :meth:`usage` instead.

        Raises:
            OSError: the root cannot be read.
        """
        if self._catalogue is not None and self._catalogue.complete:
            with suppress(*_CATALOGUE_ERRORS):
                await self._sync(self._catalogue, time.monotonic(), fill=False)
                return await self._in_thread(self._catalogue.usage)
        return self._usage or await self.usage()

    def load(self, shortcode: str, version: int | None = None) -> StoredPost | None:
        """Read the stored post from the disk in the calling thread.

        If *version* is given, and both the cached and the stored post have this version, return the
        cached post.
        """
        return self._index.load(shortcode, version)

    def has_version(self, shortcode: str, version: int) -> bool:
        """Return whether the version of the stored post is *version*.

        Raises:
            OSError: the folder cannot be read.
        """
        return version_of(self.root / shortcode) == version

    def stage(self, shortcode: str) -> Path:
        """Create an empty folder for the files of a post that is being downloaded."""
        return self._publisher.stage(shortcode)

    def publish(self, folder: Path, post: Post, fence: int = 0) -> StoredPost:
        """Publish *post*, whose files are in *folder*; :meth:`published` must be called afterwards.

        Raises:
            Superseded: the stored post has a higher fence, and is not replaced.
        """
        return self._publisher.publish(folder, post, fence)

    def discard(self, folder: Path) -> None:
        """Delete a folder created by :meth:`stage`, if it still exists."""
        self._publisher.discard(folder)

    def check(self) -> None:
        """Check that the root is still the same folder.

        Raises:
            MediaFolderGone: the root is gone, or was replaced.
        """
        self._check()

    def abandon(self) -> None:
        """Delete unfinished downloads at exit, even those that threads are still writing."""
        self._publisher.abandon()

    def _open(self) -> None:
        try:
            self.incoming.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise SettingsError(f"MEDIA_ROOT: {self.incoming} is not a folder: remove it") from None
        self._publisher.clear_leftovers(time.time())
        if self._catalogue is not None:
            # Opening a large catalogue would delay startup, because SQLite checks all of it.
            self._catalogue.refuse_newer()

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.to_thread(self._checked, function, *arguments)

    def _checked(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call *function*.

        If the root is gone before the call or after an error, raise MediaFolderGone.
        """
        self._check()
        try:
            return function(*arguments)
        except OSError:
            self._check()
            raise

    def _checked_twice(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call *function* like :meth:`_checked`, then check again.

        If the root disappears during the call, *function* may find it empty.
        """
        found = self._checked(function, *arguments)
        self._check()
        return found

    def _is_removable(self, shortcode: str) -> bool:
        folder = self.root / shortcode
        return not folder.is_symlink() and is_stored(folder)

    def _remove_if_before(self, shortcode: str, cutoff: float) -> bool:
        folder = self.root / shortcode
        if legacy_time(folder) is None:
            since = os.lstat(folder / MANIFEST).st_mtime
        else:
            since = first_seen(folder) or cutoff
        return since < cutoff and self._publisher.remove(shortcode, before=cutoff)
