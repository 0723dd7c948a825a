"""Which posts are stored, their order, and how much space they take."""

import heapq
import os
import re
import stat
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from scrapper.library.legacy import first_seen, legacy_time, note_seen
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

_MOST_INODE = 2**63 - 1
_MOMENT = re.compile(r"[0-9]{1,12}\.[0-9]{9}")


class Cursor(NamedTuple):
    """The place of a post, or of a job, among all of them by a time, newest first."""

    time: float
    name: str

    @property
    def key(self) -> tuple[float, str]:
        """What the places are sorted by."""
        return -self.time, self.name

    def __str__(self) -> str:
        # Nine digits distinguish any two present-day times in a float.
        return f"{self.time:.9f}~{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read what :meth:`__str__` wrote.

        Raises:
            ValueError: *text* is something else.
        """
        time, _, name = text.partition("~")
        if not (_MOMENT.fullmatch(time) and is_shortcode(name)):
            raise ValueError(text)
        return cls(float(time), name)


class Listing(NamedTuple):
    """Some posts, newest first, and where the next listing begins; None at the end."""

    posts: list[StoredPost]
    next: Cursor | None


class Usage(NamedTuple):
    """How many posts are stored, and the bytes of their files."""

    posts: int
    bytes: int


def folders(root: Path) -> Iterator[tuple[str, int]]:
    """The folders that may be posts, with their inodes: a new inode means a new post."""
    with os.scandir(root) as entries:
        for entry in entries:
            if is_shortcode(entry.name) and entry.is_dir(follow_symlinks=False):
                # SQLite's numbers are signed, and some file systems use all 64 bits.
                yield entry.name, entry.inode() & _MOST_INODE


def folders_of(root: Path, shortcodes: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Like :func:`folders`, but only those of *shortcodes*."""
    for shortcode in shortcodes:
        with suppress(FileNotFoundError):
            status = os.lstat(root / shortcode)
            if stat.S_ISDIR(status.st_mode):
                yield shortcode, status.st_ino & _MOST_INODE


def newest(root: Path, number: int, after: Cursor | None) -> list[Cursor]:
    """The places of the latest *number* posts that come *after* a place."""
    all_posts = (Cursor(stored_at, shortcode) for shortcode, stored_at, _ in _folders(root))
    those = (cursor for cursor in all_posts if after is None or cursor.key > after.key)
    # To sort all of many posts would take long, and much memory.
    return heapq.nsmallest(number, those, key=lambda cursor: cursor.key)


def stored_before(root: Path, moment: float) -> tuple[list[str], Set[str]]:
    """The shortcodes of posts stored before *moment* (unix time); posts of release
    0.2.0 count from when they were first seen, and are noted as seen now. The set has noted posts
    that are gone, or that this release stored again.
    """
    posts = list(_folders(root))
    legacy = {name for name, _, version in posts if version is None}
    gone = note_seen(root, legacy)
    since = {name: (first_seen(root / name) or moment) for name in legacy}
    return [name for name, at, _ in posts if since.get(name, at) < moment], gone


def versions(root: Path) -> dict[str, int]:
    """The version of each post: a number that changes when the post is stored again, and grows.

    Posts of release 0.2.0 have none.
    """
    return {name: version for name, _, version in _folders(root) if version is not None}


def version_of(folder: Path) -> int | None:
    """The version of the post in *folder*; None if there is none."""
    try:
        manifest = os.lstat(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return manifest.st_mtime_ns if stat.S_ISREG(manifest.st_mode) else None


def is_stored(folder: Path) -> bool:
    """Whether *folder* holds a post, readable or not, or files of release 0.2.0."""
    return os.path.lexists(folder / MANIFEST) or legacy_time(folder) is not None


def usage_of(root: Path) -> Usage:
    """How much is stored; this looks at every file."""
    posts = size = 0
    for shortcode, _, _ in _folders(root):
        # The post may have been removed meanwhile.
        with suppress(OSError):
            size += size_of(root / shortcode)
            posts += 1
    return Usage(posts, size)


def size_of(folder: Path) -> int:
    """The bytes of the files in *folder*.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)


def _folders(root: Path) -> Iterator[tuple[str, float, int | None]]:
    """Each post with the time by which it is listed, and its version; None for release 0.2.0."""
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
                log.warning("post not readable", shortcode=entry.name, cause=str(error))
            else:
                if stat.S_ISREG(manifest.st_mode):
                    yield entry.name, manifest.st_mtime, manifest.st_mtime_ns
