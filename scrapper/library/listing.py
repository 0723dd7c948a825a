"""Lists the stored posts by reading the folder, and measures how much space they take up."""

import heapq
import os
import re
import stat
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from scrapper.library.legacy import first_seen, legacy_time, record_seen
from scrapper.library.stored import MANIFEST, StoredPost
from scrapper.links import is_shortcode

__all__ = [
    "Cursor",
    "Listing",
    "Usage",
    "folders",
    "folders_of",
    "is_stored",
    "newest",
    "size_of",
    "stored_before",
    "usage_of",
    "version_of",
    "versions",
]

log = structlog.get_logger(__name__)

_MAX_INODE = 2**63 - 1
_CURSOR_TIME = re.compile(r"[0-9]{1,12}\.[0-9]{9}")


class Cursor(NamedTuple):
    """The position of a post or a job in a list sorted by time, newest first."""

    time: float
    name: str

    @property
    def key(self) -> tuple[float, str]:
        """The sort key, which puts newer entries first."""
        return -self.time, self.name

    def __str__(self) -> str:
        # Nine decimals distinguish any two floats near the present time.
        return f"{self.time:.9f}~{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Parse the output of :meth:`__str__`.

        Raises:
            ValueError: *text* is not a cursor.
        """
        time, _, name = text.partition("~")
        if not (_CURSOR_TIME.fullmatch(time) and is_shortcode(name)):
            raise ValueError(text)
        return cls(float(time), name)


class Listing(NamedTuple):
    """A page of posts, newest first.

    ``next`` is the cursor with which the next page starts, or None if this page is the last.
    """

    posts: list[StoredPost]
    next: Cursor | None


class Usage(NamedTuple):
    """The number of stored posts, and the total size of their files in bytes."""

    posts: int
    bytes: int


def folders(root: Path) -> Iterator[tuple[str, int]]:
    """Yield the names of folders that may be posts, and their inodes.

    A new inode means that the post was stored again.
    """
    with os.scandir(root) as entries:
        for entry in entries:
            if is_shortcode(entry.name) and entry.is_dir(follow_symlinks=False):
                # SQLite's integers are signed, and some file systems use all 64 bits.
                yield entry.name, entry.inode() & _MAX_INODE


def folders_of(root: Path, shortcodes: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield what :func:`folders` yields, but only for *shortcodes*."""
    for shortcode in shortcodes:
        with suppress(FileNotFoundError):
            status = os.lstat(root / shortcode)
            if stat.S_ISDIR(status.st_mode):
                yield shortcode, status.st_ino & _MAX_INODE


def newest(root: Path, number: int, after: Cursor | None) -> list[Cursor]:
    """Return the cursors of up to *number* posts, newest first.

    The list starts after the cursor *after*, or at the beginning if *after* is None.
    """
    all_posts = (Cursor(stored_at, shortcode) for shortcode, stored_at, _ in _posts(root))
    matching = (cursor for cursor in all_posts if after is None or cursor.key > after.key)
    # Sorting all posts of a large library would take a long time and a lot of memory.
    return heapq.nsmallest(number, matching, key=lambda cursor: cursor.key)


def stored_before(root: Path, moment: float) -> tuple[list[str], Set[str]]:
    """Return the posts stored before *moment*, and the posts of release 0.2.0 that are gone.

    Both values contain shortcodes. *moment* is a Unix time. The age of a post of release 0.2.0
    counts from the time at which it was first seen. If it has not been seen before, it is recorded
    as seen now. It is gone if it was recorded earlier, and has since been removed or stored again
    by this release.
    """
    posts = list(_posts(root))
    legacy = {name for name, _, version in posts if version is None}
    gone = record_seen(root, legacy)
    since = {name: (first_seen(root / name) or moment) for name in legacy}
    return [name for name, at, _ in posts if since.get(name, at) < moment], gone


def versions(root: Path) -> dict[str, int]:
    """Return the version of each post: a number that increases each time the post is stored.

    Posts of release 0.2.0 have no version, and are left out.
    """
    return {name: version for name, _, version in _posts(root) if version is not None}


def version_of(folder: Path) -> int | None:
    """Return the version of the post in *folder*; None if there is no manifest."""
    try:
        manifest = os.lstat(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return manifest.st_mtime_ns if stat.S_ISREG(manifest.st_mode) else None


def is_stored(folder: Path) -> bool:
    """Return whether *folder* holds a post, readable or not, or files of release 0.2.0."""
    return os.path.lexists(folder / MANIFEST) or legacy_time(folder) is not None


def usage_of(root: Path) -> Usage:
    """Count the posts, and add up the sizes of all their files."""
    posts = size = 0
    for shortcode, _, _ in _posts(root):
        # The post may have been removed in the meantime.
        with suppress(OSError):
            size += size_of(root / shortcode)
            posts += 1
    return Usage(posts, size)


def size_of(folder: Path) -> int:
    """Return the total size of the files in *folder*, in bytes.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)


def _posts(root: Path) -> Iterator[tuple[str, float, int | None]]:
    """Yield each post's shortcode, the Unix time by which it is sorted, and its version.

    Posts of release 0.2.0 have no version.
    """
    with os.scandir(root) as entries:
        for entry in entries:
            try:
                if not is_shortcode(entry.name) or not entry.is_dir(follow_symlinks=False):
                    continue
                manifest = os.lstat(os.path.join(entry.path, MANIFEST))
            except FileNotFoundError:
                stored_at = legacy_time(Path(entry.path))
                if stored_at is not None:
                    yield entry.name, stored_at, None
            except OSError as error:
                log.warning("post unreadable", shortcode=entry.name, cause=str(error))
            else:
                if stat.S_ISREG(manifest.st_mode):
                    yield entry.name, manifest.st_mtime, manifest.st_mtime_ns
