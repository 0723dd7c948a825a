"""The folder of stored posts: publish atomically, look up, expire.

A post is ``ROOT/{shortcode}/`` with its media and a manifest. Files are gathered in a folder
under ``ROOT/.incoming``, flushed to disk, and published by one rename of that folder: what is
under a shortcode is whole at any instant, also after a power cut.
"""

import asyncio
import ctypes
import errno
import heapq
import json
import os
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiofiles.os
import structlog

from scrapper.library.disk import storing
from scrapper.library.legacy import legacy_post, legacy_time
from scrapper.library.post import MediaItem, Post
from scrapper.library.response import RenderedPost
from scrapper.links import is_shortcode
from scrapper.settings import Settings

__all__ = ["Cursor", "Library", "Page", "StoredPost", "Superseded", "Usage"]

log = structlog.get_logger(__name__)

_INCOMING = ".incoming"
_MANIFEST = "post.json"
_REPLACED = ".replaced"
_TRUSTED_SECONDS = 0.1
_INDEXED_POSTS = 1024
_LISTED_AT_ONCE = 1024
_MOMENT = re.compile(r"[0-9]{1,10}\.[0-9]{9}")
_CLOCKS_APART_SECONDS = 60
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class StoredPost:
    """A post of the library.

    ``stored_at`` and ``fresh_until`` are unix times, ``seen_at`` is one of the monotonic clock.
    """

    post: Post
    rendered: RenderedPost
    stored_at: float
    fresh_until: float
    seen_at: float

    @classmethod
    def seen_now(cls, post: Post, root: Path, stored_at: float) -> "StoredPost":
        """*post* as it was just found under *root*."""
        fresh_until = post.fresh_until(stored_at)
        return cls(post, RenderedPost.of(post, root), stored_at, fresh_until, time.monotonic())

    @property
    def fresh(self) -> bool:
        """Whether the post need not be fetched again."""
        return time.time() < self.fresh_until


class Cursor(NamedTuple):
    """A post's place among all that are stored, newest first."""

    stored_at: float
    shortcode: str

    @property
    def key(self) -> tuple[float, str]:
        """What the places are sorted by."""
        return -self.stored_at, self.shortcode

    def __str__(self) -> str:
        # Nine digits tell any two times apart that a float of today can hold.
        return f"{self.stored_at:.9f}~{self.shortcode}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read what :meth:`__str__` wrote.

        Raises:
            ValueError: *text* is something else.
        """
        stored_at, _, shortcode = text.partition("~")
        if not (_MOMENT.fullmatch(stored_at) and is_shortcode(shortcode)):
            raise ValueError(text)
        return cls(float(stored_at), shortcode)


class Page(NamedTuple):
    """Some posts, and where those after them begin; None where there are no more."""

    posts: list[StoredPost]
    next: Cursor | None


class Usage(NamedTuple):
    """How many posts are stored, and the bytes of their files."""

    posts: int
    bytes: int


class Superseded(Exception):
    """What is stored of the post was fetched in a later turn."""


class Library:
    """The stored posts under *root*, an absolute path, by shortcode.

    Coroutines are for the event loop. The other methods block, and are for the thread that
    downloads.

    What was not published, and did not change for *abandoned_after* seconds, is what a process
    left that was killed: it is cleared away. With 0 no other process may use the root.
    """

    def __init__(self, root: Path, *, abandoned_after: float = 0.0) -> None:
        self.root = root
        self.incoming = root / _INCOMING
        self._abandoned_after = abandoned_after
        self._index: dict[str, StoredPost] = {}
        self._looks: dict[str, asyncio.Task[StoredPost | None]] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> "Library":
        """As the *settings* have it."""
        if not settings.redis_url.get_secret_value():
            return cls(settings.media_root)
        # A download is over at its deadline, and some time may pass between two clocks.
        patience = 2 * settings.scrape_timeout_seconds + _CLOCKS_APART_SECONDS
        return cls(settings.media_root, abandoned_after=patience)

    async def open(self) -> None:
        """Create the folders, and clear away what a crash left.

        Raises:
            OSError: the root cannot be written.
        """
        await asyncio.to_thread(self._open)

    async def get(self, shortcode: str) -> StoredPost | None:
        """The stored post, or None: not stored, not whole any more, or not readable.

        What was found on the disk within the last tenth of a second is not looked for again,
        and however many ask for a post at once, its folder is read once.
        """
        known = self._index.get(shortcode)
        if known is not None and time.monotonic() - known.seen_at < _TRUSTED_SECONDS:
            return known
        look = self._looks.get(shortcode)
        if look is None:
            look = self._looks[shortcode] = asyncio.create_task(self._look(shortcode))
        return await asyncio.shield(look)

    async def get_legacy(self, shortcode: str) -> Post | None:
        """The files that release 0.2.0 left under the shortcode, as a post without data."""
        return await asyncio.to_thread(legacy_post, self.root / shortcode)

    def changed(self, shortcode: str) -> None:
        """Take note, on the loop, that a post was published or removed."""
        self._index.pop(shortcode, None)
        self._looks.pop(shortcode, None)

    async def _look(self, shortcode: str) -> StoredPost | None:
        stored = None
        try:
            stored = await _load(self.root / shortcode)
        finally:
            # Else what was read may have been replaced meanwhile.
            if self._looks.get(shortcode) is asyncio.current_task():
                self.changed(shortcode)
                if stored is not None:
                    self._index[shortcode] = stored
                    if len(self._index) > _INDEXED_POSTS:
                        del self._index[next(iter(self._index))]
        return stored

    async def page(self, limit: int, after: Cursor | None = None) -> Page:
        """The *limit* posts stored last, or those that come *after* in that order.

        Posts stored or removed meanwhile neither repeat others nor make them be left out.
        """
        posts: list[StoredPost] = []
        last = after
        while True:
            cursors = await asyncio.to_thread(self._newest, _LISTED_AT_ONCE, last)
            for cursor in cursors:
                if len(posts) == limit:
                    return Page(posts, last)
                if (stored := await self.get(cursor.shortcode)) is not None:
                    posts.append(stored)
                last = cursor
            if len(cursors) < _LISTED_AT_ONCE:
                return Page(posts, None)

    async def remove(self, shortcode: str) -> bool:
        """Remove a post; whether there was one.

        Raises:
            DiskReadOnly: the disk takes no writes.
            OSError: it cannot be removed.
        """
        if await self.get(shortcode) is None and await self.get_legacy(shortcode) is None:
            return False
        try:
            with storing():
                await asyncio.to_thread(self._remove, shortcode)
        except FileNotFoundError:
            return False
        finally:
            self.changed(shortcode)
        return True

    async def expire(
        self, max_age: float, *, reserve: Callable[[str], AbstractAsyncContextManager[bool]]
    ) -> int:
        """Remove the posts stored more than *max_age* seconds ago; return their number.

        One whose shortcode cannot be reserved stays, as does everything that is not a post:
        other names, links, folders without a manifest.
        """
        if self._abandoned_after:
            await asyncio.to_thread(self._clear_leftovers)
        removed = 0
        oldest = time.time() - max_age
        for shortcode in await asyncio.to_thread(self._stored_before, oldest):
            async with reserve(shortcode) as reserved:
                if not reserved:
                    continue
                try:
                    removed += await asyncio.to_thread(self._remove_if_before, shortcode, oldest)
                except OSError as error:
                    log.warning("post not removed", shortcode=shortcode, cause=str(error))
                self.changed(shortcode)
        return removed

    async def usage(self) -> Usage:
        """How much is stored; every file is looked at.

        Raises:
            OSError: the root cannot be read.
        """
        return await asyncio.to_thread(self._usage)

    def stage(self, shortcode: str) -> Path:
        """Make an empty folder for the files of a post that is being downloaded."""
        folder = self._unused(shortcode)
        folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path, post: Post, fence: int = 0) -> StoredPost:
        """Put the post's *folder*, from :meth:`stage`, in the place of what is stored of it.

        :meth:`changed` must be told. *fence* is that of the turn in which the post was fetched,
        or 0 where no other process uses the root.

        Raises:
            Superseded: what is stored has a greater fence; it stays.
        """
        manifest = json.dumps({**post.to_manifest(), "fence": fence}, ensure_ascii=False, indent=1)
        (folder / _MANIFEST).write_text(manifest + "\n", encoding="utf-8")
        stored_at = (folder / _MANIFEST).stat().st_mtime
        for path in folder.iterdir():
            _flush(path)
        _flush(folder)
        try:
            self._put_in_place(folder, self.root / post.shortcode, fence)
        except Superseded:
            log.warning("turn lost: a later one stored the post", shortcode=post.shortcode)
            raise
        _flush(self.root)
        return StoredPost.seen_now(post, self.root, stored_at)

    def discard(self, folder: Path) -> None:
        """Remove a folder from :meth:`stage`, if it is still there."""
        _delete(folder)

    def _open(self) -> None:
        self.incoming.mkdir(parents=True, exist_ok=True)
        self._clear_leftovers()

    def _clear_leftovers(self) -> None:
        newest = time.time() - self._abandoned_after
        for leftover in self.incoming.iterdir():
            # Of several processes that clear away, one comes first.
            with suppress(FileNotFoundError):
                # That of a rename too, which st_mtime is not.
                if self._abandoned_after and leftover.lstat().st_ctime > newest:
                    continue
                shortcode, _, _ = leftover.name.partition(".")
                if leftover.suffix == _REPLACED and not (self.root / shortcode).exists():
                    leftover.rename(self.root / shortcode)
                else:
                    _delete(leftover)

    def _unused(self, shortcode: str, suffix: str = "") -> Path:
        return self.incoming / f"{shortcode}.{uuid.uuid4().hex}{suffix}"

    def _put_in_place(self, folder: Path, place: Path, fence: int) -> None:
        while True:
            try:
                folder.rename(place)
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
            else:
                return
            if fence and _fence_of(place) > fence:
                raise Superseded
            try:
                replaced = self._swap(folder, place)
            except OSError as error:
                # Another process removed, or stored, the post meanwhile.
                if error.errno not in (*_OCCUPIED, errno.ENOENT):
                    raise
            else:
                break
        if fence and (theirs := _fence_of(replaced)) > fence:
            # We were held up since we looked, and a later turn ended meanwhile.
            self._put_in_place(replaced, place, theirs)
            raise Superseded
        _delete(replaced)

    def _swap(self, folder: Path, place: Path) -> Path:
        """Put *folder* in the place of another; return where that is then."""
        if _exchange(folder, place):
            return folder
        # Not atomic: should we be killed between the two, _clear_leftovers() puts it back.
        replaced = self._unused(place.name, _REPLACED)
        place.rename(replaced)
        folder.rename(place)
        return replaced

    def _remove_if_before(self, shortcode: str, moment: float) -> bool:
        folder = self.root / shortcode
        stored_at = legacy_time(folder)
        if stored_at is None:
            stored_at = os.lstat(folder / _MANIFEST).st_mtime
        if stored_at >= moment:
            return False
        self._remove(shortcode)
        return True

    def _remove(self, shortcode: str) -> None:
        doomed = self._unused(shortcode)
        (self.root / shortcode).rename(doomed)
        _delete(doomed)

    def _newest(self, number: int, after: Cursor | None) -> list[Cursor]:
        all_posts = (Cursor(stored_at, shortcode) for shortcode, stored_at in self._all())
        those = (cursor for cursor in all_posts if after is None or cursor.key > after.key)
        # Not sorted as a whole: for many posts that would hold the interpreter, and much memory.
        return heapq.nsmallest(number, those, key=lambda cursor: cursor.key)

    def _stored_before(self, moment: float) -> list[str]:
        posts = (shortcode for shortcode, stored_at in self._all() if stored_at < moment)
        return [*posts, *self._legacy_before(moment)]

    def _legacy_before(self, moment: float) -> Iterator[str]:
        with os.scandir(self.root) as entries:
            for entry in entries:
                if is_shortcode(entry.name) and entry.is_dir(follow_symlinks=False):
                    stored_at = legacy_time(Path(entry.path))
                    if stored_at is not None and stored_at < moment:
                        yield entry.name

    def _usage(self) -> Usage:
        posts = size = 0
        for shortcode, _ in self._all():
            # The post may be removed meanwhile.
            with suppress(OSError), os.scandir(self.root / shortcode) as entries:
                size += sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
                posts += 1
        return Usage(posts, size)

    def _all(self) -> Iterator[tuple[str, float]]:
        with os.scandir(self.root) as entries:
            for entry in entries:
                try:
                    if not is_shortcode(entry.name) or not entry.is_dir(follow_symlinks=False):
                        continue
                    manifest = os.lstat(os.path.join(entry.path, _MANIFEST))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    log.warning("post not readable", shortcode=entry.name, cause=str(error))
                    continue
                if stat.S_ISREG(manifest.st_mode):
                    yield entry.name, manifest.st_mtime


def _is_whole(folder: Path, file: MediaItem) -> bool:
    # Not by way of a link, which could lead anywhere.
    status = os.lstat(folder / file.filename)
    return stat.S_ISREG(status.st_mode) and status.st_size == file.size


@aiofiles.os.wrap
def _load(folder: Path) -> StoredPost | None:
    try:
        if folder.is_symlink():
            return None
        with (folder / _MANIFEST).open("rb") as file:
            stored_at = os.fstat(file.fileno()).st_mtime
            post = Post.from_manifest(json.load(file))
        if post.shortcode == folder.name and all(_is_whole(folder, file) for file in post.files):
            return StoredPost.seen_now(post, folder.parent, stored_at)
        log.warning("stored post not whole", shortcode=folder.name)
    except FileNotFoundError:
        pass
    # TypeError and AttributeError: of values in the manifest that are no text or no number.
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("stored post not readable", shortcode=folder.name, cause=str(error))
    return None


def _fence_of(folder: Path) -> int:
    """The fence of the turn in which the post in *folder* was fetched; 0 if that tells none."""
    try:
        return int(json.loads((folder / _MANIFEST).read_bytes())["fence"])
    except (OSError, ValueError, TypeError, LookupError):
        return 0


def _flush(path: Path) -> None:
    """Have a file, or the entries of a folder, written to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically: renameat2(2), Linux 3.15; false where it cannot be done."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    result: int = renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    return result == 0


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
